// SPDX-License-Identifier: GPL-3.0-or-later
/* The grammar of SOURCE, disk names, image formats by name and ending. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "ingest/internal.h"

#include "base/banned.h"

static void assert_source(const char *text, const char *disk, const char *where)
{
	struct ingest_source s;
	struct err err = ERR_INIT;

	if (ingest_source_parse(text, &s, &err) != 0)
		fail_msg("'%s': %s", text, err.text);
	if (disk)
		assert_string_equal(s.disk, disk);
	else
		assert_null(s.disk);
	assert_string_equal(s.where, where);
	assert_null(s.changed);
	ingest_source_release(&s);
}

static void test_grammar(void **state)
{
	struct ingest_source s;
	struct err err = ERR_INIT;
	int fd;

	(void)state;
	assert_source("disk.raw", NULL, "disk.raw");
	assert_source("vda=disk.raw", "vda", "disk.raw");
	assert_source("vda=a=b", "vda", "a=b");
	assert_source("vda=-", "vda", "-");
	assert_source("-", NULL, "-");
	assert_source("/dev/x=y", NULL, "/dev/x=y"); /* a slash: no name of a disk */
	assert_source("disks=x", NULL, "disks=x"); /* a reserved one */
	assert_source(".a=x", NULL, ".a=x");
	assert_source("=x", NULL, "=x");
	assert_source("nbd+unix:///?socket=/run/s", NULL, "nbd+unix:///?socket=/run/s");
	assert_source("root=nbd+unix:///e?socket=/run/s", "root", "nbd+unix:///e?socket=/run/s");
	assert_source("libvirt:guest", NULL, "libvirt:guest");
	assert_int_equal(ingest_source_parse("", &s, &err), ERR_USAGE);
	assert_int_equal(ingest_source_parse("vda=", &s, &err), ERR_USAGE);
	/* a file that has the whole name is that file */
	fd = open("ingest-source=test", O_CREAT | O_WRONLY, 0600);
	assert_true(fd >= 0);
	close(fd);
	assert_source("ingest-source=test", NULL, "ingest-source=test");
	assert_int_equal(remove("ingest-source=test"), 0);
	assert_source("ingest-source=test", "ingest-source", "test");
}

static void test_long_disk(void **state)
{
	char text[DISK_NAME_MAX_LEN + 4];

	(void)state;
	memset(text, 'd', sizeof(text));
	memcpy(text + DISK_NAME_MAX_LEN, "=x", 3);
	text[DISK_NAME_MAX_LEN + 2] = 0;
	{
		struct ingest_source s;
		struct err err = ERR_INIT;

		assert_int_equal(ingest_source_parse(text, &s, &err), 0);
		assert_int_equal(strlen(s.disk), DISK_NAME_MAX_LEN);
		ingest_source_release(&s);
	}
	memcpy(text + DISK_NAME_MAX_LEN, "d=x", 4);
	assert_source(text, NULL, text);
}

static void test_names(void **state)
{
	char given[] = "root", same[] = "vdb", where[] = "no-such-file.raw", bad[] = "a/b";
	struct ingest_source s[30] = { { 0 } };
	char names[30][DISK_NAME_MAX_LEN + 1];
	struct err err = ERR_INIT;
	size_t i;

	(void)state;
	for (i = 0; i < ARRAY_SIZE(s); i++)
		s[i].where = where;
	s[1].disk = given;
	assert_int_equal(ingest_disk_names(s, ARRAY_SIZE(s), names, &err), 0);
	assert_string_equal(names[0], "vda");
	assert_string_equal(names[1], "root");
	assert_string_equal(names[2], "vdb");
	assert_string_equal(names[26], "vdz");
	assert_string_equal(names[27], "vdaa");
	s[1].disk = same;
	assert_int_equal(ingest_disk_names(s, 3, names, &err), ERR_USAGE);
	s[1].disk = bad;
	assert_int_equal(ingest_disk_names(s, 3, names, &err), ERR_USAGE);
	assert_int_equal(ingest_disk_names(s, 0, names, &err), ERR_USAGE);
}

static void test_formats(void **state)
{
	(void)state;
	assert_string_equal(image_format("qcow2"), "qcow2");
	assert_string_equal(image_format("VHD"), "vpc");
	assert_null(image_format("qcow"));
	assert_string_equal(image_format_of_path("/x.vmdk/disk"), "raw");
	assert_string_equal(image_format_of_path("disk.QCOW2"), "qcow2");
	assert_string_equal(image_format_of_path("disk.qcow2.bak"), "raw");
	assert_string_equal(image_format_of_path("a.b/disk.vhd"), "vpc");
	assert_string_equal(image_format_of_path("disk.vhdx"), "vhdx");
	assert_true(where_is_nbd("nbds://h/"));
	assert_false(where_is_nbd("./nbd://h/"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_grammar),
		cmocka_unit_test(test_long_disk),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_formats),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
