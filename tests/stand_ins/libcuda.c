/* A stand-in for NVIDIA's driver library: memory of this machine, copies at once, events by the clock, graphs of nothing.

   What it says of itself comes from the environment: STAND_IN_GPU, STAND_IN_CAPABILITY (87 is 8.7), STAND_IN_CUDA (13000 is
   13.0), STAND_IN_GPUS (how many), STAND_IN_MEMORY_MIB; with STAND_IN_NO_CAPTURE no capture succeeds. The prototypes are
   those of cuda.h (CUDA 13); a CUdeviceptr is an unsigned long long there. */
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef unsigned long long address;
static size_t used = 0;
static int capturing = 0;

static long number(const char *name, long otherwise) {
    const char *text = getenv(name);
    return text ? atol(text) : otherwise;
}
static size_t total(void) { return (size_t)number("STAND_IN_MEMORY_MIB", 8192) << 20; }
static int give(void **pointer, size_t bytes) {
    if (used + bytes > total()) return 2;
    *pointer = malloc(bytes);
    used += malloc_usable_size(*pointer);
    return 0;
}

int cuInit(unsigned int flags) { return number("STAND_IN_GPUS", 1) ? 0 : 100; }
int cuDriverGetVersion(int *version) { *version = (int)number("STAND_IN_CUDA", 13000); return 0; }
int cuGetErrorString(int error, const char **text) {
    *text = error == 2 ? "out of memory" : error == 100 ? "no CUDA-capable device is detected"
          : error == 901 ? "operation failed due to a previous error during capture" : "invalid argument";
    return 0;
}
int cuDeviceGetCount(int *count) { *count = (int)number("STAND_IN_GPUS", 1); return 0; }
int cuDeviceGet(int *device, int ordinal) { *device = ordinal; return 0; }
int cuDeviceGetName(char *name, int length, int device) {
    const char *text = getenv("STAND_IN_GPU");
    strncpy(name, text ? text : "Stand-in GPU", length);
    return 0;
}
int cuDeviceGetAttribute(int *value, int attribute, int device) {
    long capability = number("STAND_IN_CAPABILITY", 87);
    if (attribute != 75 && attribute != 76) return 1;
    *value = (int)(attribute == 75 ? capability / 10 : capability % 10);
    return 0;
}
int cuDeviceTotalMem_v2(size_t *bytes, int device) { *bytes = total(); return 0; }
int cuDevicePrimaryCtxRetain(void **context, int device) { *context = &used; return 0; }
int cuCtxSetCurrent(void *context) { return context == &used ? 0 : 1; }
int cuMemGetInfo_v2(size_t *free_bytes, size_t *bytes) { *free_bytes = total() - used; *bytes = total(); return 0; }
int cuMemAlloc_v2(address *pointer, size_t bytes) { return give((void **)pointer, bytes); }
int cuMemFree_v2(address pointer) {
    used -= malloc_usable_size((void *)pointer);
    free((void *)pointer);
    return 0;
}
int cuMemAllocHost_v2(void **pointer, size_t bytes) { *pointer = malloc(bytes); return 0; }
int cuMemFreeHost(void *pointer) { free(pointer); return 0; }
int cuMemcpyHtoDAsync_v2(address to, const void *from, size_t bytes, void *stream) {
    memcpy((void *)to, from, bytes);
    return 0;
}
int cuMemcpyDtoHAsync_v2(void *to, address from, size_t bytes, void *stream) {
    memcpy(to, (void *)from, bytes);
    return 0;
}
int cuStreamCreate(void **stream, unsigned int flags) { *stream = malloc(1); return 0; }
int cuStreamSynchronize(void *stream) { return capturing ? 900 : 0; }
int cuStreamBeginCapture_v2(void *stream, int mode) { capturing = 1; return 0; }
int cuStreamEndCapture(void *stream, void **graph) {
    capturing = 0;
    *graph = getenv("STAND_IN_NO_CAPTURE") ? NULL : malloc(1);
    return *graph ? 0 : 901;
}
int cuGraphInstantiateWithFlags(void **run, void *graph, unsigned long long flags) { *run = malloc(1); return 0; }
int cuGraphLaunch(void *run, void *stream) { return run ? 0 : 1; }
int cuGraphExecDestroy(void *run) { free(run); return 0; }
int cuGraphDestroy(void *graph) { free(graph); return 0; }
int cuEventCreate(void **event, unsigned int flags) { *event = malloc(sizeof(struct timespec)); return 0; }
int cuEventRecord(void *event, void *stream) { clock_gettime(CLOCK_MONOTONIC, event); return 0; }
int cuEventSynchronize(void *event) { return 0; }
int cuEventElapsedTime(float *milliseconds, void *before, void *after) {
    struct timespec *a = before, *b = after;
    *milliseconds = (b->tv_sec - a->tv_sec) * 1e3f + (b->tv_nsec - a->tv_nsec) / 1e6f;
    return 0;
}
