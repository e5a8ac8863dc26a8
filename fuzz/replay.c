/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * main() for a fuzz target built without libFuzzer: runs it over the files, and the files in the
 * folders, that are named.  Options in libFuzzer's form (-runs=0) are taken and mean nothing.
 *
 * A target that finds something ends the process, so exit 0 means that all held; exit 1 that
 * nothing was run or a file could not be read.
 */
#include <sys/stat.h>

#include "base/file.h"
#include "fuzz/fuzz.h"

#include "base/banned.h"

#define INPUT_MAX (4u << 20)

static unsigned long inputs;

static int replay_file(const char *path, struct err *err)
{
	cleanup_buf struct buf input = BUF_INIT;
	int r = file_read_all(path, INPUT_MAX, &input, err);
	if (r < 0)
		return r;
	/* exactly as long as the input, so that reads beyond it are seen */
	cleanup_free uint8_t *copy = fuzz_copy(input.data, input.len, 0);
	LLVMFuzzerTestOneInput(copy, input.len);
	inputs++;
	return 0;
}

static int replay_entry(void *opaque, const char *name, struct err *err)
{
	cleanup_free char *path = str_printf("%s/%s", (const char *)opaque, name);
	return path ? replay_file(path, err) : err_nomem(err, "a path");
}

int main(int argc, char **argv)
{
	struct err err = ERR_INIT;
	for (int i = 1; i < argc; i++) {
		struct stat st;
		if (argv[i][0] == '-')
			continue;
		int r = stat(argv[i], &st) == 0 && S_ISDIR(st.st_mode) ?
				dir_each(argv[i], replay_entry, argv[i], &err) :
				replay_file(argv[i], &err);
		if (r < 0) {
			fprintf(stderr, "%s: %s\n", argv[0], err.text);
			return 1;
		}
	}
	printf("%s: %lu inputs\n", argv[0], inputs);
	return inputs == 0;
}
