/* A plugin for QEMU's user mode: counts the instructions that the emulated program executes, by mnemonic or by function.

     gcc -shared -fPIC -O2 count.c -o count.so
     qemu-aarch64 -plugin count.so -d plugin PROGRAM
     qemu-aarch64 -plugin count.so,by=function -d plugin PROGRAM

   At the end it writes to stderr a line "NAME N" for each mnemonic, or for each symbol of a program that is not stripped.

   The declarations are those of qemu-plugin.h, version 1 of the interface (QEMU 7.2), which Debian's packages leave out;
   QEMU itself has the functions. */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef uint64_t plugin_id;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
struct qemu_info;
enum operation { ADD_U64 };
void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id, void (*)(plugin_id, struct qemu_plugin_tb*));
void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb*, enum operation, void* counter, uint64_t by);
void qemu_plugin_register_atexit_cb(plugin_id, void (*)(plugin_id, void*), void* data);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb*);
struct qemu_plugin_insn* qemu_plugin_tb_get_insn(const struct qemu_plugin_tb*, size_t);
char* qemu_plugin_insn_disas(const struct qemu_plugin_insn*);
const char* qemu_plugin_insn_symbol(const struct qemu_plugin_insn*);
void qemu_plugin_outs(const char*);

#define EXPORTED __attribute__((visibility("default")))
EXPORTED int qemu_plugin_version = 1;

enum { MOST_NAMES = 4096 };
struct counter {
    char name[128];
    uint64_t executed;
    uint64_t in_block; /* how often the name stands in the block that is being translated */
};
static struct counter counters[MOST_NAMES];
static size_t counter_count;
static int by_function;

/* The counter of an instruction whose name is the text up to a blank; NULL where there is no room for another. */
static struct counter* find(const char* text) {
    char name[sizeof counters[0].name] = {0};
    size_t length = text ? strcspn(text, " \t") : 0;
    memcpy(name, length ? text : "?", length < sizeof name - 1 ? length + !length : sizeof name - 1);
    for (size_t i = 0; i < counter_count; ++i) {
        if (!strcmp(counters[i].name, name)) return &counters[i];
    }
    if (counter_count == MOST_NAMES) return NULL;
    memcpy(counters[counter_count].name, name, sizeof name);
    return &counters[counter_count++];
}

/* Makes a block, once it is translated, add its instructions to the counters whenever it runs. */
static void translate(plugin_id id, struct qemu_plugin_tb* block) {
    const size_t length = qemu_plugin_tb_n_insns(block);
    (void)id;
    for (size_t i = 0; i < length; ++i) {
        struct qemu_plugin_insn* instruction = qemu_plugin_tb_get_insn(block, i);
        char* text = by_function ? NULL : qemu_plugin_insn_disas(instruction);
        struct counter* c = find(by_function ? qemu_plugin_insn_symbol(instruction) : text);
        if (c) ++c->in_block;
        free(text);
    }
    for (size_t i = 0; i < counter_count; ++i) {
        if (!counters[i].in_block) continue;
        qemu_plugin_register_vcpu_tb_exec_inline(block, ADD_U64, &counters[i].executed, counters[i].in_block);
        counters[i].in_block = 0;
    }
}

static void report(plugin_id id, void* data) {
    char line[sizeof counters[0].name + 32];
    (void)id, (void)data;
    for (size_t i = 0; i < counter_count; ++i) {
        snprintf(line, sizeof line, "%s %llu\n", counters[i].name, (unsigned long long)counters[i].executed);
        if (counters[i].executed) qemu_plugin_outs(line);
    }
}

EXPORTED int qemu_plugin_install(plugin_id id, const struct qemu_info* info, int argc, char** argv) {
    (void)info;
    for (int i = 0; i < argc; ++i) by_function |= !strcmp(argv[i], "by=function");
    qemu_plugin_register_vcpu_tb_trans_cb(id, translate);
    qemu_plugin_register_atexit_cb(id, report, NULL);
    return 0;
}
