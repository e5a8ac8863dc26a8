# SPDX-License-Identifier: GPL-3.0-or-later
# Shared by the checks: code_of(line) gives one line of C without comments and without the text of
# strings and characters.  State runs over lines; call code_start() at the top of each file.

function code_start()
{
	code_in_comment = 0
}

function code_of(line,    out, p, c, n)
{
	out = ""
	while (line != "") {
		if (code_in_comment) {
			p = index(line, "*/")
			if (!p)
				return out
			line = substr(line, p + 2)
			code_in_comment = 0
			out = out " "
			continue
		}
		if (!match(line, /\/\*|\/\/|["']/))
			return out line
		p = RSTART
		n = RLENGTH
		c = substr(line, p, n)
		out = out substr(line, 1, p - 1)
		line = substr(line, p + n)
		if (c == "//")
			return out
		if (c == "/*") {
			code_in_comment = 1
			continue
		}
		# a string or character: up to the next quote of its kind without a backslash before it
		out = out c c
		while (line != "") {
			n = substr(line, 1, 1)
			if (n == "\\") {
				line = substr(line, 3)
				continue
			}
			line = substr(line, 2)
			if (n == c)
				break
		}
	}
	return out
}
