/* LD_PRELOAD: gives libcamera's DmaBufAllocator a /dev/udmabuf on kernels without one (containers). What it hands out is
 * the memfd itself, which is all that a virtual camera and the processor need. Test-only.
 * cc -shared -fPIC -O2 -o dmabuf.so dmabuf.c -ldl */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define UDMABUF_CREATE 0x40187542u   /* _IOW('u', 0x42, struct udmabuf_create) */
#define DMA_BUF_SYNC 0x40086200u     /* _IOW('b', 0, struct dma_buf_sync) */
#define DMA_BUF_SET_NAME 0x40086201u /* _IOW('b', 1, u64) */

struct udmabuf_create { uint32_t memfd, flags; uint64_t offset, size; };

static const char *stand_in(const char *path)
{
	return path && !strcmp(path, "/dev/udmabuf") && access(path, F_OK) ? "/dev/null" : path;
}

#define OPEN(name)                                                                          \
	int name(const char *path, int flags, ...)                                          \
	{                                                                                   \
		static int (*real)(const char *, int, ...);                                 \
		va_list list;                                                               \
		va_start(list, flags);                                                      \
		mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(list, mode_t) : 0;     \
		va_end(list);                                                               \
		if (!real)                                                                  \
			real = (int (*)(const char *, int, ...))dlsym(RTLD_NEXT, #name);    \
		return real(stand_in(path), flags, mode);                                   \
	}
OPEN(open)
OPEN(open64)

int ioctl(int fd, unsigned long request, ...)
{
	static int (*real)(int, unsigned long, ...);
	va_list list;
	va_start(list, request);
	void *argument = va_arg(list, void *);
	va_end(list);
	if ((uint32_t)request == UDMABUF_CREATE)
		return fcntl((int)((struct udmabuf_create *)argument)->memfd, F_DUPFD_CLOEXEC, 3);
	if (!real)
		real = (int (*)(int, unsigned long, ...))dlsym(RTLD_NEXT, "ioctl");
	int result = real(fd, request, argument);
	if (result < 0 && ((uint32_t)request == DMA_BUF_SYNC || (uint32_t)request == DMA_BUF_SET_NAME))
		return 0;
	return result;
}
