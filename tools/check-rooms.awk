# SPDX-License-Identifier: GPL-3.0-or-later
# The work of tools/check-rooms: names of C files on standard input, the table's file in `table`.

function bad(where, text)
{
	print "check-rooms: " where ": " text
	failures++
}

function trim(s)
{
	gsub(/^[ \t`]+|[ \t`\/]+$/, "", s)
	return s
}

# | `room/` | is for | may, include (remarks) | alone touches |
function read_table(    line, cells, n, room, text, words, k, i, w, inside)
{
	while ((getline line < table) > 0) {
		if (line ~ /^\|[ ]*Room[ ]*\|/) {
			inside = 1
			if (line !~ /^\| *Room *\| *Is for *\| *May include *\| *Alone touches *\| *$/)
				bad(table, "the table's columns are not Room, Is for, May include, Alone touches")
			continue
		}
		if (line !~ /^\|/)
			inside = 0
		if (!inside || line ~ /^\|[-| ]*$/)
			continue
		n = split(line, cells, "|")
		room = trim(cells[2])
		if (n != 6)
			bad(table, "row of '" room "' has " n - 2 " columns, not 4")
		if (room in row)
			bad(table, "two rows for '" room "'")
		row[room] = cells[4]
		order[++rooms] = room
	}
	close(table)
	if (!rooms)
		bad(table, "no table of rooms found")
	for (i = 1; i <= rooms; i++) {
		text = row[order[i]]
		gsub(/\([^)]*\)/, "", text)
		k = split(text, words, ",")
		while (k > 0) {
			w = trim(words[k--])
			if (w in row || w ~ /^[a-z-]+\/[a-z-]+$/)
				allowed[order[i], w] = 1
			else if (w != "nothing of ours" && w != "kernel only" && w !~ /^and /)
				bad(table, "row of '" order[i] "' allows '" w "', which is no room")
		}
	}
}

# Depth first; colour 1: under way, 2: done.
function visit(room, path,    i, next_room)
{
	if (colour[room] == 2)
		return
	if (colour[room] == 1) {
		bad(table, "cycle: " path room)
		return
	}
	colour[room] = 1
	for (i = 1; i <= rooms; i++) {
		next_room = order[i]
		if ((room, next_room) in allowed)
			visit(next_room, path room " -> ")
	}
	colour[room] = 2
}

function read_rules(text, rx, who,    lines, n, i, p, count)
{
	n = split(text, lines, "\n")
	for (i = 1; i <= n; i++) {
		p = index(lines[i], ":")
		if (!p)
			continue
		who[++count] = " " substr(lines[i], 1, p - 1) " "
		rx[count] = substr(lines[i], p + 1)
	}
	return count
}

function check_own_include(where, room, name,    p, other, base)
{
	p = index(name, "/")
	if (!p) {
		if (name != "config.h")
			bad(where, "\"" name "\" is not named from the top of the tree")
		return
	}
	if (name ~ /(^|\/)\.\.?\//) {
		bad(where, "\"" name "\" is not named from the top of the tree")
		return
	}
	other = substr(name, 1, p - 1)
	base = name
	sub(/.*\//, "", base)
	if (!(name in exists)) {
		exists[name] = (getline junk < name) >= 0
		close(name)
	}
	if (!exists[name])
		bad(where, "\"" name "\" does not exist")
	if (apart[room])
		return
	if (other == room)
		return
	if (base ~ /^(.*-)?internal[.]h$/) {
		bad(where, "\"" name "\" is private to " other "/")
		return
	}
	if (base !~ /\.(h|def)$/)
		bad(where, "\"" name "\" is no header")
	if ((room, other) in allowed)
		return
	for (p = length(name); p > 0; p--)
		if (substr(name, p, 1) == "/" && (room, substr(name, 1, p - 1)) in allowed)
			return
	bad(where, "\"" name "\": the row of " room "/ does not allow " other "/")
}

function check_file(file,    room, line, nr, code, name, i, r)
{
	room = file
	sub(/\/.*/, "", room)
	if (!(room in row) && !apart[room]) {
		if (!(room in told))
			bad(file, "room '" room "' has no row in " table)
		told[room] = 1
		return
	}
	code_start()
	while ((r = (getline line < file)) > 0) {
		nr++
		if (!code_in_comment && line ~ /^[ \t]*#[ \t]*include[ \t]*["<]/) {
			name = line
			sub(/^[ \t]*#[ \t]*include[ \t]*["<]/, "", name)
			sub(/[">].*/, "", name)
			if (line ~ /include[ \t]*"/ && !(name ~ /^(sqlite3|zstd|jansson|libnbd|nbdkit-)/))
				check_own_include(file ":" nr, room, name)
			if (!apart[room] && room != "kmod")
				for (i = 1; i <= nheaders; i++)
					if (name ~ ("^(" header_rx[i] ")$") && !index(header_who[i], " " room " "))
						bad(file ":" nr, "<" name "> only in" header_who[i])
			code_of(line)
			continue
		}
		code = code_of(line)
		if (apart[room] || room == "kmod" || code !~ /\(/)
			continue
		for (i = 1; i <= ncalls; i++)
			if (code ~ ("(^|[^A-Za-z0-9_.>])(" call_rx[i] ")[ \t]*\\(") && !index(call_who[i], " " room " "))
				bad(file ":" nr, "call only allowed in" call_who[i] ": " trim(code))
	}
	close(file)
	if (r < 0)
		bad(file, "cannot be read")
	checked++
}

BEGIN {
	n = split(ENVIRON["APART"], list, " ")
	while (n > 0)
		apart[list[n--]] = 1
	ncalls = read_rules(ENVIRON["CALLS"], call_rx, call_who)
	nheaders = read_rules(ENVIRON["HEADERS"], header_rx, header_who)
	read_table()
	for (n = 1; n <= rooms; n++)
		visit(order[n], "")
}

{
	check_file($0)
}

END {
	if (failures) {
		print "check-rooms: " failures " violation(s)"
		exit 1
	}
	print "check-rooms: " rooms " rows, " checked + 0 " files, no violation"
}
