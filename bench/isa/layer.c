// A Vulkan layer under which a driver only compiles. RADV opens a device of any AMD family without the hardware
// (RADV_FORCE_FAMILY), but fails as soon as a command is recorded for it, and Dawn records some when it opens a device.
// So commands are dropped here, and what would wait for them succeeds at once. Buffers, modules and pipelines are real.
#include <stddef.h>
#include <string.h>
#include <vulkan/vk_layer.h>
#include <vulkan/vulkan.h>

#define EXPORTED __attribute__((visibility("default")))

typedef PFN_vkVoidFunction Function;

// The entry points below this layer. Every instance and device of a process has the same driver, and so the same ones.
static PFN_vkGetInstanceProcAddr instance_below;
static PFN_vkGetDeviceProcAddr device_below;

// Both stand for functions of any arguments: the calling conventions of Linux leave the clearing of arguments to the caller.
static VkResult succeed(void) { return VK_SUCCESS; }
static void drop(void) {}

static const char *const SUCCEEDING[] = {
    "vkBeginCommandBuffer", "vkEndCommandBuffer", "vkResetCommandBuffer", "vkResetCommandPool", "vkQueueSubmit",
    "vkQueueSubmit2",       "vkQueueSubmit2KHR",  "vkQueueWaitIdle",      "vkDeviceWaitIdle",   "vkWaitForFences",
    "vkGetFenceStatus",     "vkQueueBindSparse",  "vkWaitSemaphores",     "vkWaitSemaphoresKHR",
};

// The loader's description of the next layer is a member of the chain of structures behind a create info. The types of this
// chain for instances and devices have the same first members.
static void *link_info(const void *chain, VkStructureType type) {
  for (const VkLayerInstanceCreateInfo *info = chain; info; info = info->pNext)
    if (info->sType == type && info->function == VK_LAYER_LINK_INFO) return (void *)info;
  return NULL;
}

static VkResult VKAPI_CALL create_instance(const VkInstanceCreateInfo *create, const VkAllocationCallbacks *allocator,
                                           VkInstance *instance) {
  VkLayerInstanceCreateInfo *info = link_info(create->pNext, VK_STRUCTURE_TYPE_LOADER_INSTANCE_CREATE_INFO);
  if (!info) return VK_ERROR_INITIALIZATION_FAILED;
  instance_below = info->u.pLayerInfo->pfnNextGetInstanceProcAddr;
  info->u.pLayerInfo = info->u.pLayerInfo->pNext;
  PFN_vkCreateInstance create_below = (PFN_vkCreateInstance)instance_below(NULL, "vkCreateInstance");
  return create_below(create, allocator, instance);
}

static VkResult VKAPI_CALL create_device(VkPhysicalDevice physical, const VkDeviceCreateInfo *create,
                                         const VkAllocationCallbacks *allocator, VkDevice *device) {
  VkLayerDeviceCreateInfo *info = link_info(create->pNext, VK_STRUCTURE_TYPE_LOADER_DEVICE_CREATE_INFO);
  if (!info) return VK_ERROR_INITIALIZATION_FAILED;
  device_below = info->u.pLayerInfo->pfnNextGetDeviceProcAddr;
  PFN_vkGetInstanceProcAddr below = info->u.pLayerInfo->pfnNextGetInstanceProcAddr;
  info->u.pLayerInfo = info->u.pLayerInfo->pNext;
  PFN_vkCreateDevice create_below = (PFN_vkCreateDevice)below(NULL, "vkCreateDevice");
  return create_below(physical, create, allocator, device);
}

EXPORTED Function VKAPI_CALL compileOnlyDeviceProcAddr(VkDevice device, const char *name) {
  if (!strcmp(name, "vkGetDeviceProcAddr")) return (Function)compileOnlyDeviceProcAddr;
  if (!strncmp(name, "vkCmd", strlen("vkCmd"))) return (Function)drop;
  for (size_t i = 0; i < sizeof SUCCEEDING / sizeof *SUCCEEDING; i++)
    if (!strcmp(name, SUCCEEDING[i])) return (Function)succeed;
  return device_below(device, name);
}

EXPORTED Function VKAPI_CALL compileOnlyInstanceProcAddr(VkInstance instance, const char *name) {
  if (!strcmp(name, "vkGetInstanceProcAddr")) return (Function)compileOnlyInstanceProcAddr;
  if (!strcmp(name, "vkGetDeviceProcAddr")) return (Function)compileOnlyDeviceProcAddr;
  if (!strcmp(name, "vkCreateInstance")) return (Function)create_instance;
  if (!strcmp(name, "vkCreateDevice")) return (Function)create_device;
  return instance_below ? instance_below(instance, name) : NULL;
}
