// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * XML documents: parsing text that nobody vouches for, and small helpers over libxml2's tree.
 *
 * Invariants:
 *  1. A document type declaration ends the parsing at once, so no entity is ever declared, expanded or fetched.
 *  2. Nothing is fetched: no network, no external subset, no inclusion.
 *  3. Length is bounded here, depth (256) and lengths of names by libxml2, as long as XML_PARSE_HUGE is not given.
 *  4. Text goes into the tree as text: markup in a name stays a name.
 */
#include "virt/xml-internal.h"

#include <libxml/parser.h>
#include <stdlib.h>

#include "base/banned.h"

#define PARSE_OPTIONS                                                                              \
	(XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING | XML_PARSE_NOBLANKS |          \
	 XML_PARSE_NOCDATA)

static const xmlChar *x(const char *s)
{
	return (const xmlChar *)s;
}

void virt_doc_free(xmlDocPtr *doc)
{
	if (*doc)
		xmlFreeDoc(*doc);
}

void virt_xmlstr_free(xmlChar **s)
{
	if (*s)
		xmlFree(*s);
}

/* --- documents --- */

/* Invariant 1. */
static void doc_type_found(void *ctx, const xmlChar *name, const xmlChar *external,
			   const xmlChar *system)
{
	xmlParserCtxtPtr parser = ctx;

	(void)name;
	(void)external;
	(void)system;
	*(bool *)parser->_private = true;
	xmlStopParser(parser);
}

static int doc_error(xmlParserCtxtPtr parser, bool typed, struct err *err)
{
	const xmlError *e = xmlCtxtGetLastError(parser);
	char reason[200];
	size_t n;

	if (typed)
		return err_set(err, ERR_INVALID, "XML: a document type is not accepted");
	if (!e || !e->message)
		return err_set(err, ERR_INVALID, "XML: it does not parse");
	if (e->code == XML_ERR_NO_MEMORY)
		return err_nomem(err, "XML");
	str_copy(reason, sizeof(reason), e->message);
	for (n = strlen(reason); n > 0 && reason[n - 1] == '\n'; n--)
		reason[n - 1] = 0;
	return err_set(err, ERR_INVALID, "XML: line %d: %s", e->line, reason);
}

int virt_doc_parse(const char *xml, size_t len, const char *root, xmlDocPtr *out, struct err *err)
{
	xmlParserCtxtPtr parser;
	cleanup_doc xmlDocPtr doc = NULL;
	bool typed = false;
	int r = 0;

	if (len > VIRT_XML_MAX)
		return err_set(err, ERR_TOO_BIG, "XML: %zu bytes, over the limit of %llu", len,
			       (unsigned long long)VIRT_XML_MAX);
	xmlInitParser(); /* does its work once; libxml2 2.9 locks */
	parser = xmlNewParserCtxt();
	if (!parser)
		return err_nomem(err, "XML");
	parser->_private = &typed;
	parser->sax->internalSubset = doc_type_found;
	doc = xmlCtxtReadMemory(parser, xml, (int)len, NULL, NULL, PARSE_OPTIONS);
	if (!doc || typed)
		r = doc_error(parser, typed, err);
	xmlFreeParserCtxt(parser);
	if (r < 0)
		return r;
	if (!node_is(xmlDocGetRootElement(doc), root))
		return err_set(err, ERR_INVALID, "XML: the outermost element is not <%s>", root);
	*out = steal_ptr(doc);
	return 0;
}

int virt_doc_text(xmlDocPtr doc, char **out, struct err *err)
{
	cleanup_doc xmlDocPtr copy = NULL;
	xmlBufferPtr buffer = xmlBufferCreate();
	int n;

	if (!buffer)
		return err_nomem(err, "XML");
	n = xmlNodeDump(buffer, doc, xmlDocGetRootElement(doc), 0, 1);
	*out = n > 0 ? str_dup((const char *)xmlBufferContent(buffer)) : NULL;
	xmlBufferFree(buffer);
	return *out ? 0 : err_nomem(err, "XML");
}

xmlNodePtr virt_doc_new(const char *root, xmlDocPtr *out)
{
	xmlDocPtr doc = xmlNewDoc(x("1.0"));
	xmlNodePtr n = doc ? xmlNewDocNode(doc, NULL, x(root), NULL) : NULL;

	if (!n) {
		virt_doc_free(&doc);
		return NULL;
	}
	xmlDocSetRootElement(doc, n);
	*out = doc;
	return n;
}

/* --- nodes --- */

bool node_is(const xmlNode *n, const char *name)
{
	return n && n->type == XML_ELEMENT_NODE && !n->ns && xmlStrEqual(n->name, x(name));
}

xmlNodePtr node_next(xmlNodePtr n, const char *name)
{
	for (n = n->next; n; n = n->next)
		if (node_is(n, name))
			return n;
	return NULL;
}

xmlNodePtr node_child(xmlNodePtr n, const char *name)
{
	xmlNodePtr c = n ? n->children : NULL;

	if (!c || node_is(c, name))
		return c;
	return node_next(c, name);
}

xmlNodePtr node_add(xmlNodePtr parent, const char *name)
{
	return parent ? xmlNewChild(parent, NULL, x(name), NULL) : NULL;
}

xmlNodePtr node_add_text(xmlNodePtr parent, const char *name, const char *text)
{
	return parent ? xmlNewTextChild(parent, NULL, x(name), x(text)) : NULL;
}

xmlNodePtr node_need(xmlNodePtr parent, const char *name)
{
	xmlNodePtr n = node_child(parent, name);

	return n ? n : node_add(parent, name);
}

void node_remove(xmlNodePtr n)
{
	if (!n)
		return;
	xmlUnlinkNode(n);
	xmlFreeNode(n);
}

void node_remove_children(xmlNodePtr n, const char *name)
{
	xmlNodePtr c;

	while ((c = node_child(n, name)))
		node_remove(c);
}

void node_clear(xmlNodePtr n)
{
	while (n->children)
		node_remove(n->children);
	while (n->properties)
		xmlRemoveProp(n->properties);
}

bool node_set_text(xmlNodePtr n, const char *text)
{
	xmlNodePtr t = n ? xmlNewText(x(text)) : NULL;

	if (!t)
		return false;
	while (n->children)
		node_remove(n->children);
	return xmlAddChild(n, t) != NULL;
}

bool node_set(xmlNodePtr n, const char *attribute, const char *value)
{
	return n && xmlSetProp(n, x(attribute), x(value));
}

void node_unset(xmlNodePtr n, const char *attribute)
{
	if (n)
		xmlUnsetProp(n, x(attribute));
}

xmlChar *node_get(xmlNodePtr n, const char *attribute)
{
	return n ? xmlGetNoNsProp(n, x(attribute)) : NULL;
}

bool node_attr_is(xmlNodePtr n, const char *attribute, const char *value)
{
	cleanup_xmlstr xmlChar *s = node_get(n, attribute);

	return s && xmlStrEqual(s, x(value));
}

char *node_dup(xmlNodePtr n, const char *attribute)
{
	cleanup_xmlstr xmlChar *s = NULL;
	const char *from;
	size_t len;
	char *copy;

	if (n)
		s = attribute ? node_get(n, attribute) : xmlNodeGetContent(n);
	if (!s)
		return NULL;
	from = (const char *)s;
	from += strspn(from, " \t\r\n");
	for (len = strlen(from); len > 0 && strchr(" \t\r\n", from[len - 1]); len--)
		;
	copy = mem_alloc(len + 1);
	if (copy)
		memcpy(copy, from, len);
	return copy;
}

bool node_text_is(xmlNodePtr n, const char *text)
{
	cleanup_free char *s = node_dup(n, NULL);

	return s && strcmp(s, text) == 0;
}

bool node_u64(xmlNodePtr n, const char *attribute, uint64_t *value)
{
	cleanup_free char *s = node_dup(n, attribute);

	return s && parse_u64(s, value);
}

static bool listed(const xmlChar *name, const char *const *list)
{
	for (; *list; list++)
		if (xmlStrEqual(name, x(*list)))
			return true;
	return false;
}

void node_keep_only(xmlNodePtr n, const char *const *keep)
{
	xmlNodePtr c, next;

	for (c = n->children; c; c = next) {
		next = c->next;
		if (c->type == XML_ELEMENT_NODE && (c->ns || !listed(c->name, keep)))
			node_remove(c);
	}
}

void node_keep_attributes(xmlNodePtr n, const char *const *keep)
{
	xmlAttrPtr a, next;

	for (a = n ? n->properties : NULL; a; a = next) {
		next = a->next;
		if (a->ns || !listed(a->name, keep))
			xmlRemoveProp(a);
	}
}
