/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * livepoint.conf: the header of a repository, as text.
 *
 * One table gives each line its key and the two functions between text and value; encoding walks
 * it, decoding expects its keys in its order.
 *
 * Invariants:
 *  1. The check line is tested first, so that nothing is believed of a torn or flipped file; every
 *     later format keeps it.
 *  2. "format" and the incompatible features are judged before any key that only a newer program
 *     knows, so that the message says "upgrade" and not "damaged".
 *  3. A value is accepted only if encoding it again gives the same text; lines that start with x-
 *     are skipped wherever they stand.
 */
#include <inttypes.h>

#include "format/format.h"

#include "base/banned.h"

#define CHECK_KEY "check = "
#define CHECK_LINE_LEN 25 /* bytes: key, 16 digits, newline */
#define VALUE_MAX 127

struct conf_field {
	const char *key;
	bool keyed; /* stands there only with a cipher suite */
	bool (*decode)(const char *value, struct conf *conf);
	void (*encode)(const struct conf *conf, struct buf *out);
};

static bool decode_u32(const char *value, uint32_t *out)
{
	uint64_t v;
	if (!parse_u64(value, &v) || v > UINT32_MAX)
		return false;
	*out = (uint32_t)v;
	return true;
}

static bool decode_bits(const char *value, uint64_t *out)
{
	uint8_t raw[8];
	if (strlen(value) != 16 || !hex_decode(raw, value, sizeof(raw)))
		return false;
	*out = (uint64_t)get_be32(raw) << 32 | get_be32(raw + 4);
	return true;
}

#define U32_FIELD(name, member)                                                                    \
	static bool name##_decode(const char *value, struct conf *conf)                            \
	{                                                                                          \
		return decode_u32(value, &conf->member);                                           \
	}                                                                                          \
	static void name##_encode(const struct conf *conf, struct buf *out)                        \
	{                                                                                          \
		buf_printf(out, "%" PRIu32, conf->member);                                         \
	}
#define U64_FIELD(name, member)                                                                    \
	static bool name##_decode(const char *value, struct conf *conf)                            \
	{                                                                                          \
		return parse_u64(value, &conf->member);                                            \
	}                                                                                          \
	static void name##_encode(const struct conf *conf, struct buf *out)                        \
	{                                                                                          \
		buf_printf(out, "%" PRIu64, conf->member);                                         \
	}
#define BITS_FIELD(name, member)                                                                   \
	static bool name##_decode(const char *value, struct conf *conf)                            \
	{                                                                                          \
		return decode_bits(value, &conf->member);                                          \
	}                                                                                          \
	static void name##_encode(const struct conf *conf, struct buf *out)                        \
	{                                                                                          \
		buf_printf(out, "%016" PRIx64, conf->member);                                      \
	}
BITS_FIELD(incompatible, incompatible)
BITS_FIELD(compatible, compatible)
BITS_FIELD(autoclear, autoclear)
U32_FIELD(chunk_size, chunk_size)
U32_FIELD(leaf_chunks, leaf_chunks)
U64_FIELD(kdf_n, kdf_n)
U32_FIELD(kdf_r, kdf_r)
U32_FIELD(kdf_p, kdf_p)
U64_FIELD(grace, grace)

static bool format_decode(const char *value, struct conf *conf)
{
	(void)conf;
	uint64_t v;
	return parse_u64(value, &v) && v != 0; /* which one: conf_supported() */
}

static void format_encode(const struct conf *conf, struct buf *out)
{
	(void)conf;
	buf_printf(out, "%d", FORMAT_VERSION);
}

static bool uuid_decode(const char *value, struct conf *conf)
{
	return strlen(value) == 2 * (size_t)UUID_LEN && hex_decode(conf->uuid, value, UUID_LEN);
}

static void uuid_encode(const struct conf *conf, struct buf *out)
{
	char text[2 * UUID_LEN + 1];
	hex_encode(text, conf->uuid, UUID_LEN);
	buf_printf(out, "%s", text);
}

static bool suite_decode(const char *value, struct conf *conf)
{
	uint64_t v;
	if (!parse_u64(value, &v) || v > UINT16_MAX)
		return false;
	conf->suite = (uint16_t)v;
	return true;
}

static void suite_encode(const struct conf *conf, struct buf *out)
{
	buf_printf(out, "%u", conf->suite);
}

static bool compression_decode(const char *value, struct conf *conf)
{
	int c = compression_parse(value);
	if (c < 0)
		return false;
	conf->compression = (enum compression)c;
	return true;
}

static void compression_encode(const struct conf *conf, struct buf *out)
{
	buf_printf(out, "%s", compression_name(conf->compression));
}

static bool kdf_decode(const char *value, struct conf *conf)
{
	(void)conf;
	return strcmp(value, "scrypt") == 0;
}

static void kdf_encode(const struct conf *conf, struct buf *out)
{
	(void)conf;
	buf_printf(out, "scrypt");
}

static bool created_decode(const char *value, struct conf *conf)
{
	return time_parse(value, &conf->created);
}

static void created_encode(const struct conf *conf, struct buf *out)
{
	char text[TIME_TEXT_MAX];
	time_format(text, conf->created);
	buf_printf(out, "%s", text);
}

static const struct conf_field fields[] = {
	{ "format", false, format_decode, format_encode },
	{ "uuid", false, uuid_decode, uuid_encode },
	{ "incompatible", false, incompatible_decode, incompatible_encode },
	{ "compatible", false, compatible_decode, compatible_encode },
	{ "autoclear", false, autoclear_decode, autoclear_encode },
	{ "chunk-size", false, chunk_size_decode, chunk_size_encode },
	{ "leaf-chunks", false, leaf_chunks_decode, leaf_chunks_encode },
	{ "suite", false, suite_decode, suite_encode },
	{ "compression", false, compression_decode, compression_encode },
	{ "kdf", true, kdf_decode, kdf_encode },
	{ "kdf-n", true, kdf_n_decode, kdf_n_encode },
	{ "kdf-r", true, kdf_r_decode, kdf_r_encode },
	{ "kdf-p", true, kdf_p_decode, kdf_p_encode },
	{ "grace", false, grace_decode, grace_encode },
	{ "created", false, created_decode, created_encode },
};

/* Ranges of all values; ERR_INVALID. */
static int conf_check(const struct conf *c, struct err *err)
{
	char text[TIME_TEXT_MAX];
	int64_t again;

	if (c->chunk_size < CHUNK_SIZE_MIN || c->chunk_size > CHUNK_SIZE_MAX ||
	    (c->chunk_size & (c->chunk_size - 1)))
		return err_set(err, ERR_INVALID,
			       "chunk size %" PRIu32 " is not a power of two from %u to %u",
			       c->chunk_size, CHUNK_SIZE_MIN, CHUNK_SIZE_MAX);
	if (c->leaf_chunks != LEAF_CHUNKS)
		return err_set(err, ERR_INVALID, "leaf size %" PRIu32 " is not %u chunks",
			       c->leaf_chunks, LEAF_CHUNKS);
	if (c->suite > SUITE_LAST)
		return err_set(err, ERR_INVALID, "cipher suite %u is not known", c->suite);
	if ((unsigned)c->compression > COMPRESSION_BEST)
		return err_set(err, ERR_INVALID, "compression %d is not known",
			       (int)c->compression);
	if (c->suite && !kdf_valid(c->kdf_n, c->kdf_r, c->kdf_p))
		return err_set(err, ERR_INVALID,
			       "key derivation parameters %" PRIu64 ", %" PRIu32 ", %" PRIu32
			       " are out of range",
			       c->kdf_n, c->kdf_r, c->kdf_p);
	if (c->grace > INT64_MAX)
		return err_set(err, ERR_INVALID, "grace of %" PRIu64 " seconds is out of range",
			       c->grace);
	time_format(text, c->created);
	if (!time_parse(text, &again) || again != c->created)
		return err_set(err, ERR_INVALID, "time of creation %" PRId64 " is out of range",
			       c->created);
	return 0;
}

int conf_encode(const struct conf *conf, struct buf *out, struct err *err)
{
	cleanup_buf struct buf text = BUF_INIT;
	int r = conf_check(conf, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
		if (fields[i].keyed && !conf->suite)
			continue;
		buf_printf(&text, "%s = ", fields[i].key);
		fields[i].encode(conf, &text);
		buf_put_u8(&text, '\n');
	}
	if (!text.failed)
		buf_printf(&text, CHECK_KEY "%016" PRIx64 "\n", check_xxh3(text.data, text.len));
	if (!text.failed)
		buf_put(out, text.data, text.len);
	return text.failed || out->failed ? err_nomem(err, "the repository header") : 0;
}

/* One "key = value" line; both terminated. */
struct conf_line {
	char key[32];
	char value[VALUE_MAX + 1];
	bool extra; /* x-: value is not filled */
};

static bool line_text_ok(const uint8_t *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (p[i] < 0x20 || p[i] == 0x7f)
			return false;
	return true;
}

/* Returns 1 if a line was read, 0 at the end. */
static int line_next(struct cursor *c, unsigned *number, struct conf_line *line, struct err *err)
{
	static const char separator[] = " = ";
	size_t left = cursor_left(c);
	if (left == 0)
		return 0;
	++*number;
	const uint8_t *start = c->p;
	const uint8_t *end = memchr(start, '\n', left);
	if (!end || !line_text_ok(start, (size_t)(end - start)))
		return err_set(err, ERR_DAMAGED, "line %u is not text", *number);
	size_t n = (size_t)(end - start);
	const uint8_t *sep = memmem(start, n, separator, 3);
	if (!sep || sep == start)
		return err_set(err, ERR_DAMAGED, "line %u is not 'key = value'", *number);
	line->extra = n > 2 && start[0] == 'x' && start[1] == '-';
	size_t key_len = (size_t)(sep - start);
	size_t value_len = n - key_len - 3;
	if (!line->extra && (key_len >= sizeof(line->key) || value_len > VALUE_MAX))
		return err_set(err, ERR_DAMAGED, "line %u is too long", *number);
	if (!line->extra) {
		memcpy(line->key, start, key_len);
		line->key[key_len] = 0;
		memcpy(line->value, sep + 3, value_len);
		line->value[value_len] = 0;
	}
	c->p = end + 1;
	return 1;
}

/* Invariant 2, after each field. */
static int conf_supported(const char *key, const char *value, const struct conf *conf,
			  struct err *err)
{
	uint64_t v;
	if (strcmp(key, "format") == 0 && parse_u64(value, &v) && v > FORMAT_VERSION)
		return err_set(err, ERR_NO_REPO,
			       "the repository has format %" PRIu64
			       ", this program knows %d: upgrade livepoint",
			       v, FORMAT_VERSION);
	if (strcmp(key, "incompatible") == 0 && (conf->incompatible & ~FEATURES_INCOMPATIBLE))
		return err_set(err, ERR_NO_REPO,
			       "the repository uses features (bits %" PRIx64
			       ") that this program does not know: upgrade livepoint",
			       conf->incompatible & ~FEATURES_INCOMPATIBLE);
	if (strcmp(key, "suite") == 0 && conf->suite > SUITE_LAST)
		return err_set(
			err, ERR_NO_REPO,
			"the repository uses cipher suite %u, unknown to this program: upgrade "
			"livepoint",
			conf->suite);
	return 0;
}

static int field_decode(const struct conf_field *field, const char *value, struct conf *conf,
			struct err *err)
{
	cleanup_buf struct buf again = BUF_INIT;
	if (!field->decode(value, conf))
		return err_set(err, ERR_DAMAGED, "'%s' has the invalid value '%s'", field->key,
			       value);
	int r = conf_supported(field->key, value, conf, err);
	if (r < 0)
		return r;
	field->encode(conf, &again);
	const char *text = buf_str(&again);
	if (again.failed)
		return err_nomem(err, "the repository header");
	if (strcmp(text, value) != 0)
		return err_set(err, ERR_DAMAGED, "'%s' has the value '%s' in an unusual form",
			       field->key, value);
	return 0;
}

static int wrong_key(const char *key, const char *expected, struct err *err)
{
	for (size_t i = 0; i < ARRAY_SIZE(fields); i++)
		if (strcmp(fields[i].key, key) == 0)
			return err_set(err, ERR_DAMAGED, "'%s' stands where '%s' is expected", key,
				       expected);
	return err_set(err, ERR_NO_REPO, "unknown key '%s': a newer livepoint may know it, upgrade",
		       key);
}

static int lines_decode(const void *p, size_t n, struct conf *conf, struct err *err)
{
	struct cursor c = cursor_of(p, n);
	struct conf_line line = { 0 };
	unsigned number = 0;
	size_t i = 0;
	for (;;) {
		int r = line_next(&c, &number, &line, err);
		if (r < 0)
			return r;
		if (r > 0 && line.extra)
			continue;
		/* suite stands before them */
		while (i < ARRAY_SIZE(fields) && fields[i].keyed && !conf->suite)
			i++;
		const char *expected = i < ARRAY_SIZE(fields) ? fields[i].key : "check";
		if (r == 0 && i < ARRAY_SIZE(fields))
			return err_set(err, ERR_DAMAGED, "'%s' is missing", expected);
		if (r == 0)
			return 0;
		if (strcmp(line.key, expected) != 0 || i == ARRAY_SIZE(fields))
			return wrong_key(line.key, expected, err);
		r = field_decode(&fields[i++], line.value, conf, err);
		if (r < 0)
			return r;
	}
}

int conf_decode(const void *p, size_t n, struct conf *out, struct err *err)
{
	char check[CHECK_LINE_LEN + 1];
	struct conf conf = { 0 };

	if (n <= CHECK_LINE_LEN || n > CONF_MAX)
		return err_set(err, ERR_DAMAGED, "the repository header has %zu bytes", n);
	size_t body = n - CHECK_LINE_LEN;
	const uint8_t *bytes = p;
	snprintf(check, sizeof(check), CHECK_KEY "%016" PRIx64 "\n", check_xxh3(p, body));
	if (bytes[body - 1] != '\n' || memcmp(bytes + body, check, CHECK_LINE_LEN) != 0)
		return err_set(err, ERR_DAMAGED,
			       "the check of the repository header does not match");
	int r = lines_decode(p, body, &conf, err);
	if (r < 0)
		return r;
	if (conf_check(&conf, err) < 0)
		return err_recode(err, ERR_DAMAGED);
	*out = conf;
	return 0;
}
