/* A Vulkan driver for tests: the real one, named by SEQCORE_REAL_DRIVER, with chosen functions made to fail.
   The test process finds `seqcore_fault` by dlsym and says which, with what code, and how often. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

typedef void (*function)(void);
typedef function (*lookup)(void *, const char *);
/* Every function wrapped here returns an int and takes at most six integers or pointers. */
typedef int (*six)(long, long, long, long, long, long);

static lookup instance_lookup, device_lookup, physical_lookup;
static char failing[64];
static int code;
static atomic_int left;

void seqcore_fault(const char *name, int value, int times) {
    atomic_store(&left, 0);
    strncpy(failing, name, sizeof failing - 1);
    code = value;
    atomic_store(&left, times);
}

static int fails(const char *name) {
    return atomic_load(&left) > 0 && strcmp(name, failing) == 0 && atomic_fetch_sub(&left, 1) > 0;
}

#define WRAP(name)                                                            \
    static six real_##name;                                                   \
    static int wrap_##name(long a, long b, long c, long d, long e, long f) {  \
        return fails(#name) ? code : real_##name(a, b, c, d, e, f);           \
    }
WRAP(vkCreateDevice)
WRAP(vkQueueSubmit)
WRAP(vkAllocateMemory)
WRAP(vkWaitSemaphores)
WRAP(vkMapMemory)
WRAP(vkCreateComputePipelines)

#define OFFER(wanted)                                                         \
    if (found && strcmp(name, #wanted) == 0) {                                \
        real_##wanted = (six)found;                                           \
        return (function)wrap_##wanted;                                       \
    }

static function wrapped(const char *name, function found) {
    OFFER(vkCreateDevice)
    OFFER(vkQueueSubmit)
    OFFER(vkAllocateMemory)
    OFFER(vkWaitSemaphores)
    OFFER(vkMapMemory)
    OFFER(vkCreateComputePipelines)
    return found;
}

static function find_in_device(void *device, const char *name) {
    return wrapped(name, device_lookup(device, name));
}

static void *real(void) {
    static void *library;
    if (!library)
        library = dlopen(getenv("SEQCORE_REAL_DRIVER"), RTLD_NOW | RTLD_LOCAL);
    if (!library)
        abort();
    return library;
}

function vk_icdGetInstanceProcAddr(void *instance, const char *name) {
    if (!instance_lookup)
        instance_lookup = (lookup)dlsym(real(), "vk_icdGetInstanceProcAddr");
    function found = instance_lookup(instance, name);
    if (found && strcmp(name, "vkGetDeviceProcAddr") == 0) {
        device_lookup = (lookup)found;
        return (function)find_in_device;
    }
    return wrapped(name, found);
}

function vk_icdGetPhysicalDeviceProcAddr(void *instance, const char *name) {
    if (!physical_lookup)
        physical_lookup = (lookup)dlsym(real(), "vk_icdGetPhysicalDeviceProcAddr");
    return physical_lookup ? physical_lookup(instance, name) : NULL;
}

int vk_icdNegotiateLoaderICDInterfaceVersion(unsigned *version) {
    int (*negotiate)(unsigned *) = (int (*)(unsigned *))dlsym(real(), "vk_icdNegotiateLoaderICDInterfaceVersion");
    return negotiate ? negotiate(version) : -3;
}
