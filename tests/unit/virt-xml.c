// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * Domain XML: what is read, each rule of the rewriting, what is made, and hostile input.
 *
 * Over 800 lines: the rules share the captured domains, the host of the test data and the checks of a result.
 *
 * The captured domains are in tests/data/domains.  With VIRT_XML_OUT=DIR each result is also written there, for
 * tests/virt-xml-valid.sh, which gives them to libvirt; VIRT_XML_HOST (what this host offers), VIRT_XML_SOCKET (an NBD server)
 * and VIRT_XML_DIR (a folder for serial ports, overlays and variables) are then those of that test.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "virt/xml.h"

#include "base/banned.h"

#define NVRAM_2M 131072 /* with a code file of 1966080: 2 MiB */
#define NVRAM_4M 540672 /* with a code file of 3653632: 4 MiB */

static char folder[64]; /* firmware files of the sizes that Debian's have */

static const char *env_or(const char *name, const char *otherwise)
{
	const char *s = getenv(name);

	return s && *s ? s : otherwise;
}

static char *socket_path(void)
{
	return str_dup(env_or("VIRT_XML_SOCKET", "/run/lp/x.sock"));
}

static char *dir_path(const char *name)
{
	return str_printf("%s/%s", env_or("VIRT_XML_DIR", "/var/lp"), name);
}

static void load(const char *name, struct buf *out)
{
	cleanup_free char *path =
		str_printf("%s/tests/data/domains/%s", env_or("abs_top_srcdir", "."), name);
	struct err err = ERR_INIT;

	if (file_read_all(path, 16 * MiB, out, &err) < 0)
		fail_msg("%s", err.text);
}

static void keep(const char *name, const char *xml)
{
	const char *dir = getenv("VIRT_XML_OUT");
	cleanup_free char *path = dir ? str_printf("%s/%s.xml", dir, name) : NULL;

	if (path)
		assert_int_equal(
			file_write_all(path, xml, strlen(xml), 0644, true, "test.virt", NULL), 0);
}

/* The host of the test data, with firmware files that have sizes. */
static struct virt_host *data_host(void)
{
	cleanup_buf struct buf in = BUF_INIT, out = BUF_INIT;
	struct virt_host *h = NULL;
	const char *from, *hit;

	load("host.xml", &in);
	for (from = buf_str(&in); (hit = strstr(from, "/nowhere")); from = hit + 8)
		buf_printf(&out, "%.*s%s", (int)(hit - from), from, folder);
	buf_printf(&out, "%s", from);
	assert_int_equal(virt_host_read(buf_str(&out), out.len, true, &h, NULL), 0);
	return h;
}

/* The same, or the one that VIRT_XML_HOST names (then the results are for it). */
static struct virt_host *any_host(void)
{
	const char *path = getenv("VIRT_XML_HOST");
	cleanup_buf struct buf in = BUF_INIT;
	struct virt_host *h = NULL;
	struct err err = ERR_INIT;

	if (!path)
		return data_host();
	assert_int_equal(file_read_all(path, VIRT_XML_MAX, &in, &err), 0);
	if (virt_host_read(buf_str(&in), in.len, true, &h, &err) < 0)
		fail_msg("%s", err.text);
	return h;
}

/* --- what a result says --- */

static void has(const char *xml, const char *text)
{
	if (!strstr(xml, text))
		fail_msg("no '%s' in:\n%s", text, xml);
}

static void hasnt(const char *xml, const char *text)
{
	if (strstr(xml, text))
		fail_msg("'%s' in:\n%s", text, xml);
}

static unsigned count(const char *xml, const char *text)
{
	unsigned n = 0;

	for (; (xml = strstr(xml, text)); xml++)
		n++;
	return n;
}

/* Rewrites a file of the test data; the result is kept under `as`. */
static char *rewrite(const char *name, const char *as, const struct virt_rewrite *how,
		     struct buf *notes)
{
	cleanup_buf struct buf in = BUF_INIT;
	struct err err = ERR_INIT;
	char *out = NULL;

	load(name, &in);
	if (virt_xml_rewrite(buf_str(&in), in.len, how, &out, notes, &err) < 0)
		fail_msg("%s: %s", name, err.text);
	keep(as, out);
	return out;
}

/* Rewriting fails with that code, and nothing is filled. */
static void refused(const char *name, const struct virt_rewrite *how, int code, const char *text)
{
	cleanup_buf struct buf in = BUF_INIT;
	struct err err = ERR_INIT;
	char *out = NULL;

	load(name, &in);
	assert_int_equal(virt_xml_rewrite(buf_str(&in), in.len, how, &out, NULL, &err), code);
	assert_null(out);
	has(err.text, text);
}

/* --- reading --- */

static void test_read(void **state)
{
	cleanup_ptr(virt_xml_info) info = NULL;
	cleanup_buf struct buf in = BUF_INIT;
	const struct virt_xml_disk *d;

	(void)state;
	load("bios-virtio.xml", &in);
	assert_int_equal(virt_xml_read(buf_str(&in), in.len, &info, NULL), 0);
	assert_string_equal(info->name, "web1");
	assert_string_equal(info->uuid, "4dea22b3-1d52-d8f3-2516-782e98ab3fa0");
	assert_string_equal(info->type, "kvm");
	assert_string_equal(info->arch, "x86_64");
	assert_string_equal(info->machine, "pc-i440fx-7.2");
	assert_int_equal(info->memory, 2 * GiB);
	assert_int_equal(info->vcpus, 2);
	assert_int_equal(info->firmware, VIRT_BIOS);
	assert_false(info->agent || info->tpm || info->secure_boot);
	assert_int_equal(info->ndisks, 2);
	assert_string_equal(info->disks[0].source, "/var/lib/libvirt/images/web1.qcow2");
	assert_string_equal(info->disks[0].format, "qcow2");
	d = virt_xml_find_disk(info, "vdb");
	assert_non_null(d);
	assert_string_equal(d->kind, "network");
	assert_string_equal(d->protocol, "rbd");
	assert_string_equal(d->source, "pool/web1-data");
	assert_string_equal(d->bus, "virtio");
	assert_null(virt_xml_find_disk(info, "vdc"));
	assert_int_equal(info->nnics, 2);
	assert_string_equal(info->nics[0].source, "default");
	assert_string_equal(info->nics[1].kind, "bridge");
	assert_string_equal(info->nics[1].mac, "52:54:00:aa:bb:02");
}

static void test_read_firmware(void **state)
{
	cleanup_ptr(virt_xml_info) uefi = NULL;
	cleanup_ptr(virt_xml_info) windows = NULL;
	cleanup_buf struct buf a = BUF_INIT, b = BUF_INIT;

	(void)state;
	load("uefi-nvram.xml", &a);
	assert_int_equal(virt_xml_read(buf_str(&a), a.len, &uefi, NULL), 0);
	assert_int_equal(uefi->firmware, VIRT_UEFI);
	assert_false(uefi->secure_boot);
	assert_string_equal(uefi->nvram, "/var/lib/libvirt/qemu/nvram/uefi1_VARS.fd");
	assert_true(uefi->agent);
	assert_true(uefi->tpm);
	load("windows.xml", &b);
	assert_int_equal(virt_xml_read(buf_str(&b), b.len, &windows, NULL), 0);
	assert_true(windows->secure_boot);
	assert_string_equal(windows->disks[1].device, "cdrom");
	assert_true(windows->disks[1].readonly);
}

static void test_read_live(void **state)
{
	static const char xml[] =
		"<domain type='qemu' id='3'><name>a</name><memory unit='b'>5000</memory><devices>"
		"<disk type='network' device='disk'><source protocol='nbd' name='p/vda'>"
		"<host transport='unix' socket='/s'/><reconnect delay='3'/></source><target dev='vda'/>"
		"<mirror type='file' job='copy' ready='yes'/><alias name='virtio-disk0'/></disk>"
		"<disk type='file'><target dev='sdb' bus='sata'/><mirror type='file' job='copy'/></disk>"
		"</devices></domain>";
	cleanup_ptr(virt_xml_info) info = NULL;

	(void)state;
	assert_int_equal(virt_xml_read(xml, strlen(xml), &info, NULL), 0);
	assert_int_equal(info->memory, 5000);
	assert_true(info->disks[0].reconnect);
	assert_string_equal(info->disks[0].socket, "/s");
	assert_true(info->disks[0].copying && info->disks[0].copy_ready);
	assert_true(info->disks[1].copying && !info->disks[1].copy_ready);
	assert_false(info->disks[1].reconnect);
}

/* --- rules --- */

static void test_disks_to_nbd(void **state)
{
	cleanup_free char *sock = socket_path(), *out = NULL;
	const struct virt_source disks[] = {
		{ .target = "vda", .socket = sock, .export_name = "web1@2026-11-20T14:03:07Z/vda" },
		{ .target = "vdb", .socket = sock, .export_name = "o<&>'\"/vdb", .reconnect = 10 },
	};
	const struct virt_rewrite how = { .disks = disks, .ndisks = 2, .session = true };
	cleanup_buf struct buf notes = BUF_INIT;

	(void)state;
	out = rewrite("bios-virtio.xml", "bios", &how, &notes);
	has(out, " type=\"qemu\">");
	assert_int_equal(count(out, "protocol=\"nbd\""), 2);
	has(out, "name=\"web1@2026-11-20T14:03:07Z/vda\"");
	has(out, "name=\"o&lt;&amp;&gt;'&quot;/vdb\"");
	assert_int_equal(count(out, "error_policy=\"stop\" rerror_policy=\"stop\""), 2);
	assert_int_equal(count(out, "cache=\"none\" discard=\"unmap\""), 2);
	assert_int_equal(count(out, "<reconnect delay=\"10\"/>"), 1);
	/* the guest's view */
	has(out, "<serial>WEB-ROOT</serial>");
	has(out, "slot=\"0x07\"");
	has(out, "slot=\"0x08\"");
	has(out, "<target dev=\"vda\" bus=\"virtio\"/>");
	has(out, "machine=\"pc-i440fx-7.2\"");
	has(out, "<title>Web &amp; mail</title>");
	has(out, "debian.org/debian/12");
	/* the host's */
	hasnt(out, "/var/lib/libvirt/images");
	hasnt(out, "rbd");
	hasnt(out, "secret");
	hasnt(out, "iotune");
	hasnt(out, "alias");
	hasnt(out, "iothread");
}

static void test_host_things_go(void **state)
{
	static const char *const gone[] = { "emulator", "seclabel",    "resource",  "cpuset",
					    "shadow",	"commandline", "spicevmc",  "geheim",
					    "0.0.0.0",	"redirdev",    "bandwidth", "filterref",
					    "portid",	"vnet3",       "/dev/pts",  "hwrng",
					    "<audio" };
	static const char *const tuned[] = {
		"memoryBacking", "hugepages", "cputune", "numatune", "<numa",  "maxMemory",
		"iothread",	 "hostdev",   "shmem",	 "<memory ", "shadow", "evdev",
		"vhu0",		 "rawio",     "sgio",	 "lun",	     "volume", "address=\"3\"",
		"fwcfg",	 "f.img",     "kvm"
	};
	cleanup_free char *sock = socket_path(), *a = NULL, *b = NULL;
	const struct virt_source vda = { .target = "vda", .socket = sock, .export_name = "a" };
	const struct virt_source sda = { .target = "sda", .socket = sock, .export_name = "b" };
	struct virt_rewrite how = { .disks = &vda, .ndisks = 1, .session = true };
	size_t i;

	(void)state;
	a = rewrite("bios-virtio.xml", "bios-one", &how, NULL);
	for (i = 0; i < ARRAY_SIZE(gone); i++)
		hasnt(a, gone[i]);
	hasnt(a, "vdb"); /* --disks vda */
	has(a, "/dev/urandom");
	how.disks = &sda;
	b = rewrite("tuned.xml", "tuned", &how, NULL);
	for (i = 0; i < ARRAY_SIZE(tuned); i++)
		if (strcmp(tuned[i], "<memory ") != 0)
			hasnt(b, tuned[i]);
	assert_int_equal(count(b, "<memory "), 1); /* no module of memory */
	hasnt(b, "vsock"); /* needs a device of the host */
	has(b, "<vcpu current=\"2\">4</vcpu>");
	has(b, "<cpu mode=\"maximum\">");
	has(b, "cores=\"4\"");
	has(b, "dev=\"fda\"");
	has(b, "<wwn>5000c50015ea71aa</wwn>");
	has(b, "model=\"virtio-scsi\"");
	assert_int_equal(count(b, "<link state=\"down\"/>"), 2);
}

static void test_notes(void **state)
{
	cleanup_free char *sock = socket_path(), *out = NULL;
	const struct virt_source disk = { .target = "sda", .socket = sock };
	const struct virt_rewrite how = { .disks = &disk, .ndisks = 1, .session = true };
	cleanup_buf struct buf notes = BUF_INIT, in = BUF_INIT;

	(void)state;
	load("tuned.xml", &in);
	assert_int_equal(virt_xml_rewrite(buf_str(&in), in.len, &how, &out, &notes, NULL), 0);
	has(buf_str(&notes), "<hostdev>: left out\n");
	has(buf_str(&notes), "<shmem>: left out\n");
	has(buf_str(&notes), "drive \"fda\": its medium is taken out\n");
	has(buf_str(&notes), "network card 0: hostdev \"\" is not to be had here");
	hasnt(buf_str(&notes), "<cputune>");
}

static void test_identity(void **state)
{
	cleanup_free char *sock = socket_path(), *a = NULL, *b = NULL, *c = NULL;
	const struct virt_source disk = { .target = "vda", .socket = sock };
	const struct virt_source sda = { .target = "sda", .socket = sock };
	const struct virt_mac macs[] = { { "1", "52:54:00:99:99:99" } };
	struct virt_rewrite how = { .disks = &disk,
				    .ndisks = 1,
				    .session = true,
				    .name = "x & <y>",
				    .uuid = "99999999-2222-4333-8444-555555555555",
				    .mac = VIRT_MAC_NEW };

	(void)state;
	a = rewrite("bios-virtio.xml", "new-identity", &how, NULL);
	has(a, "<name>x &amp; &lt;y&gt;</name>");
	has(a, "<uuid>99999999-2222-4333-8444-555555555555</uuid>");
	hasnt(a, "3e3fce45"); /* generation id: libvirt makes a new one */
	has(a, "<genid/>");
	hasnt(a, "52:54:00:aa:bb");
	assert_int_equal(count(a, "<mac address=\"52:54:00:"), 2);
	how.mac = VIRT_MAC_KEEP;
	how.macs = macs;
	how.nmacs = 1;
	how.name = "kept-mac";
	b = rewrite("bios-virtio.xml", "one-mac", &how, NULL);
	has(b, "52:54:00:aa:bb:01");
	has(b, "52:54:00:99:99:99");
	hasnt(b, "52:54:00:aa:bb:02");
	how = (struct virt_rewrite){ .disks = &sda,
				     .ndisks = 1,
				     .session = true,
				     .name = "smbios",
				     .uuid = "99999999-2222-4333-8444-555555555556" };
	c = rewrite("tuned.xml", "smbios", &how, NULL);
	has(c, "<entry name=\"uuid\">99999999-2222-4333-8444-555555555556</entry>");
	has(c, "ACME");
}

static void test_macs_refused(void **state)
{
	const struct virt_mac bad[] = { { "0", "52:54:00:99:99" },
					{ "0", "53:54:00:99:99:99" },
					{ "0", "52:54:00:99:99:zz" },
					{ "0", "" } };
	const struct virt_mac none = { "7", "52:54:00:99:99:99" };
	struct virt_rewrite how = { .session = true, .nmacs = 1 };
	size_t i;

	(void)state;
	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		how.macs = &bad[i];
		refused("bios-virtio.xml", &how, ERR_INVALID, "no MAC address");
	}
	how.macs = &none;
	refused("bios-virtio.xml", &how, ERR_INVALID, "no network card \"7\"");
}

static void test_networks(void **state)
{
	const struct virt_net_map maps[] = { { "default", "lab" }, { "br-dmz", "bridge:br7" } };
	const struct virt_net_map wrong[] = { { "nosuch", "lab" } };
	struct virt_rewrite how = { .maps = maps, .nmaps = 2 };
	cleanup_free char *a = NULL, *b = NULL, *c = NULL, *d = NULL, *e = NULL;

	(void)state;
	a = rewrite("bios-virtio.xml", "net-map", &how, NULL);
	has(a, "<source network=\"lab\"/>");
	has(a, "<source bridge=\"br7\"/>");
	hasnt(a, "default");
	assert_int_equal(count(a, "<model type=\"virtio\"/>"), 2);
	has(a, "slot=\"0x03\"");
	how.nmaps = 0;
	b = rewrite("bios-virtio.xml", "net-kept", &how, NULL);
	has(b, "<source network=\"default\"/>");
	has(b, "<source bridge=\"br-dmz\"/>");
	how.net = VIRT_NET_ISOLATED;
	how.isolated = "lp-iso";
	c = rewrite("bios-virtio.xml", "net-isolated", &how, NULL);
	assert_int_equal(count(c, "<source network=\"lp-iso\"/>"), 2);
	hasnt(c, "br-dmz");
	how.session = true;
	d = rewrite("bios-virtio.xml", "net-session", &how, NULL);
	assert_int_equal(count(d, "<link state=\"down\"/>"), 2);
	assert_int_equal(count(d, "<interface type=\"user\">"), 2);
	how = (struct virt_rewrite){ .net = VIRT_NET_NONE };
	e = rewrite("bios-virtio.xml", "net-none", &how, NULL);
	assert_int_equal(count(e, "<link state=\"down\"/>"), 2);
	how = (struct virt_rewrite){ .maps = wrong, .nmaps = 1 };
	refused("bios-virtio.xml", &how, ERR_INVALID, "network \"nosuch\"");
}

static void test_local_overlay(void **state)
{
	cleanup_free char *sock = socket_path(), *path = dir_path("over.qcow2"), *out = NULL;
	const struct virt_source disk = { .target = "sdb",
					  .kind = VIRT_SOURCE_OVERLAY,
					  .path = path,
					  .socket = sock,
					  .export_name = "p/sdb" };
	const struct virt_rewrite how = { .disks = &disk, .ndisks = 1, .session = true };

	(void)state;
	out = rewrite("sata-cdrom.xml", "overlay", &how, NULL);
	has(out, "type=\"qcow2\" cache=\"none\"");
	has(out, "<backingStore type=\"network\">");
	has(out, "<format type=\"raw\"/>");
	has(out, "over.qcow2");
	assert_int_equal(count(out, "protocol=\"nbd\""), 1);
	hasnt(out, "shareable");
	hasnt(out, "sdc");
	/* the drive is there, at its place, without its medium */
	has(out, "<target dev=\"sda\" bus=\"sata\"/>");
	has(out, "device=\"cdrom\"");
	hasnt(out, "install.iso");
	/* nothing of the host: its files as kernel, as serial port, as folder */
	hasnt(out, "shadow");
	hasnt(out, "cmdline");
	hasnt(out, "cron.d");
	hasnt(out, "4555");
	hasnt(out, "filesystem");
}

static void test_bus(void **state)
{
	cleanup_free char *sock = socket_path(), *virtio = NULL, *scsi = NULL, *ide = NULL;
	cleanup_free char *sata = NULL, *tuned = NULL;
	const struct virt_source sda = { .target = "sda", .socket = sock };
	const struct virt_source two[] = { { .target = "sdb", .socket = sock },
					   { .target = "sdc", .socket = sock } };
	const struct virt_source web[] = { { .target = "vda", .socket = sock },
					   { .target = "vdb", .socket = sock } };
	struct virt_rewrite how = { .disks = two, .ndisks = 2, .session = true, .bus = "virtio" };

	(void)state;
	virtio = rewrite("sata-cdrom.xml", "bus-virtio", &how, NULL);
	has(virtio, "<target dev=\"vda\" bus=\"virtio\"/>");
	has(virtio, "<target dev=\"vdb\" bus=\"virtio\"/>");
	hasnt(virtio, "rotation_rate");
	assert_int_equal(count(virtio, "type=\"drive\""), 1); /* the CD-ROM's */
	has(virtio, "<boot order=\"1\"/>");
	how.bus = "scsi";
	scsi = rewrite("sata-cdrom.xml", "bus-scsi", &how, NULL);
	has(scsi, "<target dev=\"sdb\" bus=\"scsi\"/>"); /* sda is the CD-ROM's */
	has(scsi, "model=\"virtio-scsi\"");
	how.bus = "sata";
	how.disks = web;
	sata = rewrite("bios-virtio.xml", "bus-sata", &how, NULL);
	has(sata, "<target dev=\"sda\" bus=\"sata\"/>");
	hasnt(sata, "slot=\"0x07\"");
	how.bus = "ide";
	ide = rewrite("bios-virtio.xml", "bus-ide", &how, NULL);
	has(ide, "<target dev=\"hdb\" bus=\"ide\"/>");
	how.bus = "virtio"; /* what only SCSI has goes */
	how.disks = &sda;
	how.ndisks = 1;
	tuned = rewrite("tuned.xml", "bus-from-scsi", &how, NULL);
	has(tuned, "<target dev=\"vda\" bus=\"virtio\"/>");
	hasnt(tuned, "wwn");
	how.disks = web;
	how.ndisks = 2;
	how.bus = "nvme";
	refused("bios-virtio.xml", &how, ERR_INVALID, "disk bus");
	how.bus = "ide";
	how.disks = two;
	refused("sata-cdrom.xml", &how, ERR_INVALID, "q35");
}

/* A drive whose address is not what its name says keeps its place from the disks that move. */
static void test_bus_address(void **state)
{
	static const char xml[] =
		"<domain type='qemu'><name>clash</name><memory>65536</memory><os><type arch='x86_64' "
		"machine='pc'>hvm</type></os><devices><disk type='file' device='cdrom'><target dev='hdc' "
		"bus='ide'/><address type='drive' controller='0' bus='0' target='0' unit='0'/></disk>"
		"<disk type='file'><target dev='vda' bus='virtio'/></disk></devices></domain>";
	cleanup_free char *sock = socket_path(), *out = NULL;
	const struct virt_source disk = { .target = "vda", .socket = sock };
	const struct virt_rewrite how = { .disks = &disk, .ndisks = 1, .bus = "ide" };

	(void)state;
	assert_int_equal(virt_xml_rewrite(xml, strlen(xml), &how, &out, NULL, NULL), 0);
	keep("clash", out);
	has(out, "<target dev=\"hdb\" bus=\"ide\"/>");
}

static void test_bad_sources(void **state)
{
	const struct virt_source none = { .target = "vdx", .socket = "/s" };
	const struct virt_source relative = { .target = "vda", .socket = "s" };
	const struct virt_source drive = { .target = "sda", .socket = "/s" };
	const struct virt_source no_path = { .target = "vda",
					     .kind = VIRT_SOURCE_FILE,
					     .socket = "/s" };
	struct virt_rewrite how = { .disks = &none, .ndisks = 1 };

	(void)state;
	refused("bios-virtio.xml", &how, ERR_INVALID, "no disk \"vdx\"");
	how.disks = &relative;
	refused("bios-virtio.xml", &how, ERR_INVALID, "absolute");
	how.disks = &no_path;
	refused("bios-virtio.xml", &how, ERR_INVALID, "absolute");
	how.disks = &drive;
	refused("sata-cdrom.xml", &how, ERR_INVALID, "no disk \"sda\"");
}

static void test_kvm_and_cpu(void **state)
{
	cleanup_free char *sock = socket_path(), *tcg = NULL, *kvm = NULL, *web = NULL;
	const struct virt_source disk = { .target = "sda", .socket = sock };
	const struct virt_source vda = { .target = "vda", .socket = sock };
	cleanup_free char *vars = dir_path("win_VARS.fd");
	cleanup_ptr(virt_host) host = data_host();
	struct virt_rewrite how = { .disks = &disk,
				    .ndisks = 1,
				    .session = true,
				    .host = host,
				    .nvram = vars,
				    .nvram_size = NVRAM_4M };

	(void)state;
	tcg = rewrite("windows.xml", "data-windows-tcg", &how, NULL);
	has(tcg, "<cpu mode=\"maximum\">");
	hasnt(tcg, "hypervclock");
	hasnt(tcg, "<hyperv");
	hasnt(tcg, "hidden");
	has(tcg, "cores=\"2\"");
	has(tcg, "<smm state=\"on\"/>");
	has(tcg, "<clock offset=\"localtime\">");
	has(tcg, "name=\"hpet\"");
	how.accel = VIRT_ACCEL_KVM;
	kvm = rewrite("windows.xml", "data-windows-kvm", &how, NULL);
	has(kvm, "type=\"kvm\">");
	has(kvm, "mode=\"host-model\"");
	has(kvm, "hypervclock");
	has(kvm, "<relaxed state=\"on\"/>");
	how = (struct virt_rewrite){ .disks = &vda, .ndisks = 1, .session = true };
	web = rewrite("bios-virtio.xml", "cpu-named", &how, NULL);
	hasnt(web, "Skylake");
	hasnt(web, "vmx");
	hasnt(web, "kvmclock");
	has(web, "name=\"hpet\"");
}

static void test_machine(void **state)
{
	const struct virt_net_map nets[] = { { "lan", "default" } };
	cleanup_ptr(virt_host) host = data_host();
	cleanup_free char *sock = socket_path(), *vars = dir_path("m_VARS.fd"), *old = NULL,
			  *newer = NULL, *moved = NULL;
	cleanup_buf struct buf notes = BUF_INIT;
	const struct virt_source disk = { .target = "sda", .socket = sock };
	const struct virt_source box = { .target = "sdb", .socket = sock };
	struct virt_rewrite how = { .disks = &disk,
				    .ndisks = 1,
				    .maps = nets,
				    .nmaps = 1,
				    .host = host,
				    .nvram = vars,
				    .nvram_size = NVRAM_4M };

	(void)state;
	old = rewrite("windows.xml", "data-machine-old", &how, &notes);
	has(old, "machine=\"pc-q35-2.12\"");
	has(buf_str(&notes),
	    "\"pc-q35-rhel9.2.0\" is not on this host, it becomes \"pc-q35-2.12\"");
	how.machine = "pc-q35-9.1";
	newer = rewrite("windows.xml", "data-machine-new", &how, NULL);
	has(newer, "machine=\"pc-q35-7.2\"");
	how.machine = "microvm";
	refused("windows.xml", &how, ERR_UNSUPPORTED, "none of its family");
	how = (struct virt_rewrite){
		.disks = &box, .ndisks = 1, .session = true, .host = host, .machine = "pc"
	};
	moved = rewrite("sata-cdrom.xml", "machine-moved", &how, NULL);
	has(moved, "machine=\"pc\"");
	hasnt(moved, "<address"); /* of the other layout */
	hasnt(moved, "type=\"sata\"");
}

static void test_firmware(void **state)
{
	cleanup_ptr(virt_host) host = data_host();
	cleanup_free char *sock = socket_path(), *vars = dir_path("fw_VARS.fd"), *small = NULL,
			  *big = NULL, *secure = NULL, *unknown = NULL;
	const struct virt_source disk = { .target = "vda", .socket = sock };
	const struct virt_source win = { .target = "sda", .socket = sock };
	struct virt_rewrite how = { .disks = &disk,
				    .ndisks = 1,
				    .session = true,
				    .host = host,
				    .nvram = vars,
				    .nvram_size = NVRAM_2M };

	(void)state;
	assert_true(virt_host_has_uefi(host));
	small = rewrite("uefi-nvram.xml", "data-fw-2m", &how, NULL);
	has(small, "/OVMF_CODE.fd</loader>");
	has(small, "fw_VARS.fd</nvram>");
	hasnt(small, "edk2");
	hasnt(small, "template");
	hasnt(small, "firmware=");
	hasnt(small, "<feature ");
	hasnt(small, "accel3d");
	hasnt(small, "tpm");
	how.nvram_size = NVRAM_4M;
	big = rewrite("uefi-nvram.xml", "data-fw-4m", &how, NULL);
	has(big, "/OVMF_CODE_4M.fd</loader>");
	how.nvram_size = 0;
	unknown = rewrite("uefi-nvram.xml", "data-fw-unknown", &how, NULL);
	has(unknown, "/OVMF_CODE.fd</loader>"); /* the same name */
	how.nvram_size = 12345;
	refused("uefi-nvram.xml", &how, ERR_UNSUPPORTED, "variables of 12345 bytes");
	how.disks = &win;
	how.nvram_size = NVRAM_4M;
	secure = rewrite("windows.xml", "data-fw-secure", &how, NULL);
	has(secure, "secure=\"yes\"");
	has(secure, "OVMF_CODE_4M.");
	hasnt(secure, "OVMF_CODE_4M.fd");
	how.nvram_size = NVRAM_2M; /* no build of 2 MiB with Secure Boot here */
	refused("windows.xml", &how, ERR_UNSUPPORTED, "Secure Boot");
	how.nvram = NULL;
	how.nvram_size = NVRAM_4M;
	refused("windows.xml", &how, ERR_INVALID, "no file for its variables");
}

static void test_ends(void **state)
{
	cleanup_free char *sock = socket_path(), *log = dir_path("s & <x>.log"), *out = NULL;
	const struct virt_source disk = { .target = "sdb", .socket = sock };
	cleanup_ptr(virt_host) host = data_host();
	struct virt_rewrite how = { .disks = &disk,
				    .ndisks = 1,
				    .session = true,
				    .host = host,
				    .memory = 256 * MiB,
				    .vcpus = 2,
				    .serial = VIRT_SERIAL_FILE,
				    .serial_path = log,
				    .graphics = VIRT_GRAPHICS_SOCKET,
				    .add_video = true,
				    .on_reboot = VIRT_ON_DESTROY,
				    .on_crash = VIRT_ON_PRESERVE };

	(void)state;
	out = rewrite("sata-cdrom.xml", "ends", &how, NULL);
	has(out, "<memory unit=\"KiB\">262144</memory>");
	has(out, "<currentMemory unit=\"KiB\">262144</currentMemory>");
	has(out, "<vcpu>2</vcpu>");
	has(out, "s &amp; &lt;x&gt;.log");
	assert_int_equal(count(out, "<serial type=\"file\">"), 1);
	assert_int_equal(count(out, "<serial type=\"null\">"), 1);
	has(out, "<on_reboot>destroy</on_reboot>");
	has(out, "<on_crash>preserve</on_crash>");
	hasnt(out, "on_poweroff");
	has(out, "<graphics type=\"vnc\">");
	has(out, "<listen type=\"socket\"/>");
	assert_int_equal(count(out, "org.qemu.guest_agent.0"), 1);
	assert_int_equal(count(out, "<video>"), 1);
	how.serial_path = NULL;
	refused("sata-cdrom.xml", &how, ERR_INVALID, "serial");
}

static void test_screen(void **state)
{
	cleanup_free char *sock = socket_path(), *out = NULL, *bare = NULL;
	const struct virt_source disk = { .target = "vda", .socket = sock };
	const struct virt_source sda = { .target = "sda", .socket = sock };
	cleanup_buf struct buf notes = BUF_INIT;
	cleanup_ptr(virt_host) host = data_host();
	struct virt_rewrite how = { .disks = &disk,
				    .ndisks = 1,
				    .session = true,
				    .host = host,
				    .graphics = VIRT_GRAPHICS_SOCKET };

	(void)state;
	out = rewrite("bios-virtio.xml", "screen", &how, &notes);
	has(out, "<graphics type=\"vnc\" keymap=\"de\">");
	has(out, "<model type=\"vga\"/>");
	hasnt(out, "qxl");
	hasnt(out, "vgamem");
	has(buf_str(&notes), "video \"qxl\"");
	how.disks = &sda;
	how.add_video = true;
	bare = rewrite("tuned.xml", "screen-added", &how, NULL);
	assert_int_equal(count(bare, "<video>"), 1);
}

static void test_set_sources(void **state)
{
	const struct virt_source to = { .target = "vda",
					.kind = VIRT_SOURCE_FILE,
					.path = "/srv/new & <.qcow2",
					.format = "qcow2" };
	const struct virt_source none = { .target = "vdz", .kind = VIRT_SOURCE_FILE, .path = "/x" };
	cleanup_buf struct buf in = BUF_INIT;
	cleanup_free char *out = NULL;
	char *nothing = NULL;

	(void)state;
	load("bios-virtio.xml", &in);
	assert_int_equal(virt_xml_set_sources(buf_str(&in), in.len, &to, 1, &out, NULL), 0);
	has(out, "<source file=\"/srv/new &amp; &lt;.qcow2\"/>");
	has(out, "pool/web1-data"); /* the other disk is as it was */
	has(out, "<seclabel");
	hasnt(out, "base.qcow2");
	assert_int_equal(virt_xml_set_sources(buf_str(&in), in.len, &none, 1, &nothing, NULL),
			 ERR_INVALID);
	assert_null(nothing);
}

/* --- making --- */

static char *make(const struct virt_make *how, const char *as)
{
	struct err err = ERR_INIT;
	char *out = NULL;

	if (virt_xml_make(how, &out, &err) < 0)
		fail_msg("%s: %s", as, err.text);
	keep(as, out);
	return out;
}

static void test_make(void **state)
{
	static const char *const buses[] = { "virtio", "sata", "scsi", "ide" };
	cleanup_free char *sock = socket_path(), *vars = dir_path("made_VARS.fd"), *uefi = NULL;
	const struct virt_source disks[] = { { .target = "vda", .socket = sock },
					     { .target = "sdb", .socket = sock } };
	cleanup_ptr(virt_host) host = any_host();
	struct virt_make how = { .disks = disks, .ndisks = 2, .memory = 64 * MiB };
	size_t i;

	(void)state;
	for (i = 0; i < ARRAY_SIZE(buses); i++) {
		cleanup_free char *name = str_printf("made-%s", buses[i]), *out = NULL;

		how.name = name;
		how.bus = buses[i];
		how.network = i % 2 ? "user" : "none";
		out = make(&how, name);
		has(out, "machine=\"pc\"");
		assert_int_equal(count(out, "rerror_policy=\"stop\""), 2);
		has(out, i == 0 ? "dev=\"vda\" bus=\"virtio\"" :
			 i == 3 ? "dev=\"hda\" bus=\"ide\"" :
				  "<target dev=\"sdb\"");
	}
	how.name = "made-uefi";
	how.bus = NULL;
	how.firmware = VIRT_UEFI;
	refused("bios-virtio.xml", &(struct virt_rewrite){ .machine = "x", .host = host },
		ERR_UNSUPPORTED, "none of its family");
	assert_int_equal(virt_xml_make(&how, &uefi, NULL), ERR_UNSUPPORTED); /* no host given */
	how.host = host;
	assert_int_equal(virt_xml_make(&how, &uefi, NULL), ERR_INVALID); /* no variables */
	how.nvram = vars;
	uefi = make(&how, "made-uefi");
	has(uefi, "machine=\"q35\"");
	has(uefi, "OVMF_VARS");
	has(uefi, "type=\"pflash\"");
}

static void test_new_ones(void **state)
{
	char uuid[2][37], mac[2][18];
	unsigned i;

	(void)state;
	for (i = 0; i < 2; i++) {
		virt_new_uuid(uuid[i]);
		virt_new_mac(mac[i]);
		assert_int_equal(strlen(uuid[i]), 36);
		assert_int_equal(uuid[i][14], '4');
		assert_non_null(strchr("89ab", uuid[i][19]));
		assert_int_equal(strncmp(mac[i], "52:54:00:", 9), 0);
		assert_int_equal(strlen(mac[i]), 17);
	}
	assert_string_not_equal(uuid[0], uuid[1]);
	assert_string_not_equal(mac[0], mac[1]);
}

/* --- hostile input --- */

static void hostile(const char *xml, size_t len, int code, const char *text)
{
	const struct virt_rewrite how = { .session = true };
	struct virt_xml_info *info = NULL;
	struct err err = ERR_INIT;
	char *out = NULL;

	assert_int_equal(virt_xml_read(xml, len, &info, &err), code);
	assert_null(info);
	if (!strstr(err.text, text))
		fail_msg("'%s', not '%s'", err.text, text);
	assert_int_equal(virt_xml_rewrite(xml, len, &how, &out, NULL, &err), code);
	assert_null(out);
}

static void test_hostile(void **state)
{
	static const char *const bombs[] = {
		"<!DOCTYPE d [<!ENTITY a 'aaaaaaaaaa'><!ENTITY b '&a;&a;&a;&a;&a;&a;'>]>"
		"<domain><name>&b;</name></domain>",
		"<!DOCTYPE d SYSTEM 'file:///etc/passwd'><domain/>",
		"<!DOCTYPE d [<!ENTITY x SYSTEM 'file:///etc/passwd'>]><domain><name>&x;</name></domain>",
		"<!DOCTYPE d [<!ENTITY % p SYSTEM 'http://127.0.0.1:9/x'> %p;]><domain/>",
		"<?xml version='1.0'?>\n<!DOCTYPE domain>\n<domain/>",
	};
	static const char *const broken[] = { "",
					      "x",
					      "<domain>",
					      "<domain><name>a</name></domain>junk",
					      "<domain><name>&nosuch;</name></domain>",
					      "<domain a='1' a='2'/>",
					      "<domain>\x01</domain>" };
	static const struct {
		const char *xml, *text;
	} wrong[] = {
		{ "<network><name>a</name></network>", "not <domain>" },
		{ "<x:domain xmlns:x='y'><name>a</name></x:domain>", "not <domain>" },
		{ "<domain/>", "without a name" },
		{ "<domain><name>a</name></domain>", "no memory" },
		{ "<domain><name>a</name><memory unit='EiB'>1</memory></domain>", "no memory" },
		{ "<domain><name>a</name><memory>-1</memory></domain>", "no memory" },
		{ "<domain><name>a</name><memory unit='TiB'>99999999999999</memory></domain>",
		  "no memory" },
		{ "<domain><name>a</name><memory>1</memory><vcpu>0</vcpu></domain>", "CPUs" },
		{ "<domain><name>a</name><memory>1</memory><devices><disk/></devices></domain>",
		  "without a target" },
	};
	size_t i;

	(void)state;
	for (i = 0; i < ARRAY_SIZE(bombs); i++)
		hostile(bombs[i], strlen(bombs[i]), ERR_INVALID, "document type");
	for (i = 0; i < ARRAY_SIZE(broken); i++)
		hostile(broken[i], strlen(broken[i]), ERR_INVALID, "XML: ");
	for (i = 0; i < ARRAY_SIZE(wrong); i++)
		hostile(wrong[i].xml, strlen(wrong[i].xml), ERR_INVALID, wrong[i].text);
	hostile("<domain><name>a\0b</name></domain>", 34, ERR_INVALID, "XML: ");
}

static void test_big(void **state)
{
	cleanup_buf struct buf deep = BUF_INIT, wide = BUF_INIT, disks = BUF_INIT;
	size_t n = 100 * 1000 * 1000;
	cleanup_ptr(virt_xml_info) info = NULL;
	cleanup_free char *big = mem_alloc(n);
	unsigned i;

	(void)state;
	assert_non_null(big);
	memset(big, ' ', n);
	memcpy(big, "<domain>", 8);
	hostile(big, n, ERR_TOO_BIG, "over the limit");
	for (i = 0; i < 20000; i++)
		buf_printf(&deep, "<domain>");
	hostile(buf_str(&deep), deep.len, ERR_INVALID, "XML: ");
	buf_printf(&wide, "<domain><name>w</name><memory>1</memory>");
	while (wide.len < VIRT_XML_MAX - 100)
		buf_printf(&wide, "<a/>");
	buf_printf(&wide, "</domain>");
	assert_int_equal(virt_xml_read(buf_str(&wide), wide.len, &info, NULL), 0);
	assert_string_equal(info->name, "w");
	buf_printf(&disks, "<domain><name>w</name><memory>1</memory><devices>");
	for (i = 0; i < VIRT_DISKS_MAX + 1; i++)
		buf_printf(&disks, "<disk><target dev='vd%u'/></disk>", i);
	buf_printf(&disks, "</devices></domain>");
	hostile(buf_str(&disks), disks.len, ERR_TOO_BIG, "257 disks");
}

/* Every cut of a real domain, and every byte of it turned: an answer, and no other memory than its own (under ASan). */
static void test_cuts_and_flips(void **state)
{
	cleanup_ptr(virt_host) host = data_host();
	const struct virt_source disk = { .target = "sda", .socket = "/s" };
	const struct virt_rewrite how = { .disks = &disk,
					  .ndisks = 1,
					  .session = true,
					  .host = host,
					  .bus = "virtio",
					  .machine = "pc" };
	cleanup_buf struct buf in = BUF_INIT;
	unsigned accepted = 0;
	size_t i;

	(void)state;
	load("tuned.xml", &in);
	for (i = 0; i < in.len - 10; i++) { /* the last bytes are the closing tag and a newline */
		struct virt_xml_info *info = NULL;

		assert_true(virt_xml_read((char *)in.data, i, &info, NULL) < 0);
		assert_null(info);
	}
	for (i = 0; i < in.len; i++) {
		char *out = NULL;

		in.data[i] ^= 1;
		if (virt_xml_rewrite((char *)in.data, in.len, &how, &out, NULL, NULL) == 0)
			accepted++;
		free(out);
		in.data[i] ^= 1;
	}
	assert_true(accepted > 100); /* bytes of values that the rules drop or keep */
}

/* --- files of firmware --- */

static int setup(void **state)
{
	static const struct {
		const char *name;
		off_t size;
	} files[] = { { "OVMF_CODE.fd", 1966080 },
		      { "OVMF_CODE_4M.fd", 3653632 },
		      { "OVMF_CODE_4M.ms.fd", 3653632 },
		      { "OVMF_CODE_4M.secboot.fd", 3653632 },
		      { "AAVMF_BLOB.fd", 64 * 1024 * 1024 } };
	size_t i;

	(void)state;
	str_copy(folder, sizeof(folder), "/tmp/lp-virt-xml.XXXXXX");
	if (!mkdtemp(folder))
		return -1;
	for (i = 0; i < ARRAY_SIZE(files); i++) {
		cleanup_free char *path = str_printf("%s/%s", folder, files[i].name);
		cleanup_fd int fd = file_create(path, "test.virt.create", NULL);

		if (fd < 0 || ftruncate(fd, files[i].size) < 0)
			return -1;
	}
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	return dir_remove_flat(folder, "test.virt.remove", NULL) == 1 ? 0 : -1;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_read),
		cmocka_unit_test(test_read_firmware),
		cmocka_unit_test(test_read_live),
		cmocka_unit_test(test_disks_to_nbd),
		cmocka_unit_test(test_host_things_go),
		cmocka_unit_test(test_notes),
		cmocka_unit_test(test_identity),
		cmocka_unit_test(test_macs_refused),
		cmocka_unit_test(test_networks),
		cmocka_unit_test(test_local_overlay),
		cmocka_unit_test(test_bus),
		cmocka_unit_test(test_bus_address),
		cmocka_unit_test(test_bad_sources),
		cmocka_unit_test(test_kvm_and_cpu),
		cmocka_unit_test(test_machine),
		cmocka_unit_test(test_firmware),
		cmocka_unit_test(test_ends),
		cmocka_unit_test(test_screen),
		cmocka_unit_test(test_set_sources),
		cmocka_unit_test(test_make),
		cmocka_unit_test(test_new_ones),
		cmocka_unit_test(test_hostile),
		cmocka_unit_test(test_big),
		cmocka_unit_test(test_cuts_and_flips),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
