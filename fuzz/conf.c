/* SPDX-License-Identifier: GPL-3.0-or-later */
/* livepoint.conf, with its check line made right. */
#include <inttypes.h>

#include "format/format.h"
#include "fuzz/fuzz.h"

#include "base/banned.h"

#define CHECK_LINE_LEN 25

static bool has_extra_line(const char *text)
{
	return str_starts(text, "x-") || strstr(text, "\nx-");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct conf c;
	struct err err = ERR_INIT;
	cleanup_buf struct buf text = BUF_INIT, again = BUF_INIT;
	(void)conf_decode(data, size, &c, &err);
	/* what stands behind the last line but one is replaced */
	size_t body = size > CHECK_LINE_LEN ? size - CHECK_LINE_LEN : size;
	buf_put(&text, data, body);
	buf_printf(&text, "check = %016" PRIx64 "\n", check_xxh3(data, body));
	FUZZ_HOLDS(!text.failed);
	if (conf_decode(text.data, text.len, &c, &err) < 0)
		return 0;
	FUZZ_HOLDS(conf_encode(&c, &again, &err) == 0);
	if (!has_extra_line(buf_str(&text)))
		fuzz_same(&again, text.data, text.len);
	return 0;
}
