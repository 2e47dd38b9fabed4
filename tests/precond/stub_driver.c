/* A libcuda.so.1 that only says what it is asked, for test_while_node: cuda-bindings' own argument conversion runs
   against it on a machine without a driver. Names that it lacks answer with an error. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

typedef int Result;
typedef void *Handle;
typedef unsigned int Flags;

static Handle previous[1] = {(Handle)0x70};
static uint64_t edges[1] = {0};
static Handle bodies[1] = {(Handle)0x60};

Result cuInit(Flags flags) { return 0; }
Result cuDriverGetVersion(int *version) { *version = 13000; return 0; }
Result cuCtxGetCurrent(Handle *context) { *context = (Handle)0xc0; return 0; }

Result cuModuleLoadData(Handle *module, const char *image) {
    printf("load %zu\n", strlen(image));
    *module = (Handle)0x30;
    return 0;
}

Result cuModuleGetFunction(Handle *function, Handle module, const char *name) {
    printf("function %p %s\n", module, name);
    *function = (Handle)0x31;
    return 0;
}

static Result info(Handle stream, int *status, uint64_t *id, Handle *graph, const Handle **nodes, size_t *count) {
    printf("info %p\n", stream);
    *status = 1, *id = 9, *graph = (Handle)0x50, *nodes = previous, *count = 1;
    return 0;
}

static Result info_edges(Handle stream, int *status, uint64_t *id, Handle *graph, const Handle **nodes,
                         const uint64_t **data, size_t *count) {
    *data = edges;
    return info(stream, status, id, graph, nodes, count);
}

Result cuGraphConditionalHandleCreate(uint64_t *handle, Handle graph, Handle context, Flags value, Flags flags) {
    printf("handle %p %p %u %u\n", graph, context, value, flags);
    *handle = 0xabcdef0123;
    return 0;
}

static Result add(Handle *node, Handle graph, const Handle *after, size_t count, uint64_t *parameters) {
    uint64_t *conditional = parameters + 2; /* handle; type and size; graphs; context */
    printf("node %p after %p %zu type %d: %lx %lx %p\n", graph, after[0], count, (int)parameters[0],
           (unsigned long)conditional[0], (unsigned long)conditional[1], (Handle)conditional[3]);
    conditional[2] = (uint64_t)bodies;
    *node = (Handle)0x71;
    return 0;
}

static Result add_edges(Handle *node, Handle graph, const Handle *after, const void *data, size_t count,
                        uint64_t *parameters) {
    return data ? 1 : add(node, graph, after, count, parameters);
}

static Result update(Handle stream, Handle *nodes, size_t count, Flags flags) {
    printf("update %p %p %zu %u\n", stream, nodes[0], count, flags);
    return 0;
}

static Result update_edges(Handle stream, Handle *nodes, const void *data, size_t count, Flags flags) {
    return data ? 1 : update(stream, nodes, count, flags);
}

Result cuStreamBeginCaptureToGraph(Handle stream, Handle graph, const Handle *after, const void *data, size_t count,
                                   int mode) {
    printf("begin %p %p %zu %d\n", stream, graph, count, mode);
    return after || data;
}

Result cuStreamEndCapture(Handle stream, Handle *graph) {
    printf("end %p\n", stream);
    *graph = bodies[0];
    return 0;
}

Result cuLaunchKernel(Handle function, Flags x, Flags y, Flags z, Flags i, Flags j, Flags k, Flags shared,
                      Handle stream, void **parameters, void **extra) {
    printf("launch %p %u %u %p %lx %lx\n", function, x * y * z * i * j * k, shared, stream,
           (unsigned long)*(uint64_t *)parameters[0], (unsigned long)*(uint64_t *)parameters[1]);
    return extra != NULL;
}

static Result absent(void) { return 500; }

Result cuGetProcAddress_v2(const char *name, Handle *function, int version, uint64_t flags, int *found) {
    int with_edges = version >= 12030;
    *function = dlsym(RTLD_DEFAULT, name);
    if (!strcmp(name, "cuStreamGetCaptureInfo")) *function = with_edges ? (Handle)info_edges : (Handle)info;
    if (!strcmp(name, "cuGraphAddNode")) *function = with_edges ? (Handle)add_edges : (Handle)add;
    if (!strcmp(name, "cuStreamUpdateCaptureDependencies"))
        *function = with_edges ? (Handle)update_edges : (Handle)update;
    if (!*function) {
        Handle self = dlopen("libcuda.so.1", RTLD_NOW | RTLD_NOLOAD);
        *function = self ? dlsym(self, name) : NULL;
    }
    if (!*function) *function = (Handle)absent;
    if (found) *found = *function == (Handle)absent;
    return 0;
}

Result cuGetProcAddress(const char *name, Handle *function, int version, uint64_t flags) {
    return cuGetProcAddress_v2(name, function, version, flags, NULL);
}
