// The weights of @name@: the assembler takes them from the file @weights@, which -I finds.
#include "@name@_weights.h"

#if defined(__APPLE__)
__asm__(
    ".pushsection __TEXT,__const\n"
    ".globl _@name@_weights_begin\n"
    ".private_extern _@name@_weights_begin\n"
    ".p2align 6\n"
    "_@name@_weights_begin:\n"
    ".incbin \"@weights@\"\n"
    ".popsection\n");
#else
__asm__(
    ".pushsection .rodata\n"
    ".globl @name@_weights_begin\n"
    ".hidden @name@_weights_begin\n"
    ".p2align 6\n"
    "@name@_weights_begin:\n"
    ".incbin \"@weights@\"\n"
    ".popsection\n");
#endif

extern "C" __attribute__((visibility("hidden"))) const unsigned char @name@_weights_begin[];

const void* @name@_weights(void) { return @name@_weights_begin; }
