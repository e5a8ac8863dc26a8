/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Inside virt/: documents, and the pieces that rewriting and making a domain share.
 *
 * Setters return false when memory is short; callers gather that in one flag and test it at their end.
 */
#ifndef LIVEPOINT_VIRT_XML_INTERNAL_H
#define LIVEPOINT_VIRT_XML_INTERNAL_H

#include <libxml/tree.h>

#include "virt/virt.h"
#include "virt/xml.h"

#define DISK_PREFIX_MAX 8

/* --- xml-doc.c --- */
void virt_doc_free(xmlDocPtr *doc);
#define cleanup_doc __attribute__((cleanup(virt_doc_free)))
void virt_xmlstr_free(xmlChar **s);
#define cleanup_xmlstr __attribute__((cleanup(virt_xmlstr_free)))

/* Parses hostile text (virt/xml.h); root: name that the root element must have.  *out: xmlFreeDoc(). */
int virt_doc_parse(const char *xml, size_t len, const char *root, xmlDocPtr *out, struct err *err);
int virt_doc_text(xmlDocPtr doc, char **out, struct err *err);
xmlNodePtr virt_doc_new(const char *root, xmlDocPtr *out);

bool node_is(const xmlNode *n, const char *name); /* an element of no namespace with that name */
xmlNodePtr node_child(xmlNodePtr n, const char *name); /* the first, or NULL; n may be NULL */
xmlNodePtr node_next(xmlNodePtr n, const char *name); /* the next sibling of that name, or NULL */
xmlNodePtr node_add(xmlNodePtr parent, const char *name); /* NULL: no memory, or no parent */
xmlNodePtr node_add_text(xmlNodePtr parent, const char *name, const char *text);
xmlNodePtr node_need(xmlNodePtr parent, const char *name); /* the first, or a new one */
void node_remove(xmlNodePtr n); /* NULL is fine */
void node_remove_children(xmlNodePtr n, const char *name); /* all of that name */
void node_clear(xmlNodePtr n); /* all children and attributes */
bool node_set_text(xmlNodePtr n, const char *text);
bool node_set(xmlNodePtr n, const char *attribute, const char *value);
void node_unset(xmlNodePtr n, const char *attribute);
xmlChar *node_get(xmlNodePtr n, const char *attribute); /* xmlFree(); NULL: not there (or n is) */
bool node_attr_is(xmlNodePtr n, const char *attribute, const char *value);
bool node_text_is(xmlNodePtr n, const char *text);
char *
node_dup(xmlNodePtr n,
	 const char *attribute); /* the attribute (NULL: the text, trimmed); free(); NULL: none */
bool node_u64(xmlNodePtr n, const char *attribute, uint64_t *value); /* the same, as a number */
/* Removes each child element whose name is not in `keep` (NULL-terminated), and those of a namespace. */
void node_keep_only(xmlNodePtr n, const char *const *keep);
void node_keep_attributes(xmlNodePtr n, const char *const *keep);

/* --- xml-read.c --- */
bool xml_memory(xmlNodePtr n, uint64_t *bytes); /* <memory unit='KiB'> */
bool xml_is_uefi(xmlNodePtr os);
bool xml_is_secure(xmlNodePtr os);
/* The target of the disk with that alias in a live XML; leaves `target` alone if there is none. */
void virt_xml_alias_target(const char *xml, size_t len, const char *alias, char *target,
			   size_t size);

/* --- xml-host.c --- */
/* The machine type to take for `wanted`; borrowed, or NULL if the host has none of its family. */
const char *host_machine(const struct virt_host *h, const char *wanted);
bool host_has_arch(const struct virt_host *h, const char *arch);
bool host_has_video(const struct virt_host *h,
		    const char *model); /* true if the host does not say */
/* The firmware file to take; borrowed, or NULL.  path: the captured one, or NULL; nvram_size: 0 unknown. */
const char *host_loader(const struct virt_host *h, const char *path, bool secure,
			uint64_t nvram_size);
bool machine_is_q35(const char *machine);

/* --- xml-disk.c --- */
/* Writes type, driver and source of a <disk>; false: no memory. */
bool disk_set_source(xmlNodePtr disk, const struct virt_source *s);
int disk_check_source(const struct virt_source *s, struct err *err);
int disks_rewrite(xmlNodePtr devices, const struct virt_rewrite *how, bool q35, struct buf *notes,
		  struct err *err);
/* Takes <reconnect> out of all sources of NBD.  Returns 1 and fills *out (free()) if there was one, else 0. */
int virt_xml_drop_reconnect(const char *xml, size_t len, char **out, struct err *err);
/* Name prefix of a bus ("vd"), NULL: not one that disks here may have. */
const char *disk_prefix(const char *bus);
/* "vda", ..., "vdz", "vdaa". */
void disk_name(const char *prefix, unsigned index, char *name, size_t size);

/* --- xml-device.c --- */
int nics_rewrite(xmlNodePtr devices, const struct virt_rewrite *how, struct buf *notes,
		 struct err *err);
/* NIC's connection: a map's `to`. */
bool nic_connect(xmlNodePtr nic, const char *to, bool session);
bool serials_rewrite(xmlNodePtr devices, enum virt_serial serial, const char *path);
bool channels_rewrite(xmlNodePtr devices);
bool graphics_rewrite(xmlNodePtr devices, enum virt_graphics graphics);
bool video_rewrite(xmlNodePtr devices, const struct virt_host *host, bool add, struct buf *notes);
bool rng_set(xmlNodePtr rng);

/* --- xml-rewrite.c --- */
int os_firmware(xmlNodePtr domain, const struct virt_host *host, const char *nvram,
		uint64_t nvram_size, struct buf *notes, struct err *err);
bool on_event(xmlNodePtr domain, const char *element, enum virt_on_event what);
void xml_note(struct buf *notes, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* --- xml-make.c: documents for calls; *xml: free() --- */
int virt_xml_target(const struct virt_target *to, char **xml, struct err *err);
int virt_xml_volume(const char *name, const char *format, uint64_t size, char **xml,
		    struct err *err);
int virt_xml_network(const char *name, bool see_each_other, char **xml, struct err *err);

#endif
