#ifndef @NAME@_WEIGHTS_H
#define @NAME@_WEIGHTS_H

#ifdef __cplusplus
extern "C" {
#endif

/* The weights, which lie in the library: @name@_weights_size() bytes for @name@_create(). */
__attribute__((visibility("default"))) const void* @name@_weights(void);

#ifdef __cplusplus
}
#endif
#endif
