// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * xxh3: prints the XXH3-64 of standard input, 16 hexadecimal digits, so that a shell test can change a
 * livepoint.conf and make its check line fit again.
 */
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include "base/file.h"

#include "base/banned.h"

int main(void)
{
	cleanup_buf struct buf in = BUF_INIT;
	uint8_t piece[4096];
	ssize_t n;

	while ((n = file_read_some(STDIN_FILENO, piece, sizeof(piece), "standard input", NULL)) > 0)
		buf_put(&in, piece, (size_t)n);
	if (n < 0 || in.failed)
		return 1;
	printf("%016" PRIx64 "\n", check_xxh3(in.data, in.len));
	return 0;
}
