/* A TensorFlow Lite delegate that stands in for libedgetpu in the tests: it claims every `edgetpu-custom-op` and copies
 * that node's input to its output, and it fails in whichever way its options say.
 *
 * build: cc -shared -fPIC -O1 -o libstandin.so stand_in_delegate.c
 *
 * options: mode   what goes wrong: ok | refuse | refuse-silent | prepare | fail | hang | abort | segv | exit | slow | wrong
 *                 | stuck (hangs, and goes on hanging when the fault is over)
 *          at     the first invoke that goes wrong, from 1 (default 1)
 *          while  a file: things go wrong only while it exists (default: always)
 *          in     invoke (default) | create: where abort, segv and hang happen
 *          journal  a file that gets a line with the device and the performance for each delegate made
 *
 * $EDGE_CLASSIFIERD_ROOT/stand-in-devices, one path a line, is what edgetpu_list_devices tells.
 *
 * The declarations below name only the leading members that are used, in the order in which the C API of TensorFlow
 * Lite (common.h) has had them from 2.5 on; both ai-edge-litert 2.3 and tflite-runtime 2.14 were run with them. */
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { STATUS_OK, STATUS_ERROR };
enum { BUILTIN_DELEGATE = 51, ALLOW_DYNAMIC_TENSORS = 1 };

struct int_array { int size; int data[]; };

struct tensor {               /* TfLiteTensor: 112 bytes on 64-bit, 64 on 32-bit */
	int type;
	void *data;
	struct int_array *dims;
	struct { float scale; int32_t zero_point; } params;
	int allocation_type;
	size_t bytes;
	const void *allocation;
	const char *name;
	void *delegate;
	int buffer_handle;
	_Bool stale, variable;
	struct { int type; void *params; } quantization;
	void *sparsity;
	const struct int_array *dims_signature;
};

struct node { struct int_array *inputs, *outputs; };

struct context;
struct delegate;

struct registration {
	void *(*init)(struct context *, const char *, size_t);
	void (*release)(struct context *, void *);
	int (*prepare)(struct context *, struct node *);
	int (*invoke)(struct context *, struct node *);
	const char *(*profile)(const struct context *, const struct node *);
	int32_t builtin_code;
	const char *custom_name;
	int version;
	void *external, *async;
	uint64_t inplace;
};

struct context {
	size_t tensors_size;
	int (*get_execution_plan)(struct context *, struct int_array **);
	struct tensor *tensors;
	void *impl;
	int (*resize)(struct context *, struct tensor *, struct int_array *);
	void (*report_error)(struct context *, const char *, ...);
	int (*add_tensors)(struct context *, int, int *);
	int (*get_node)(struct context *, int, struct node **, struct registration **);
	int (*replace)(struct context *, struct registration, const struct int_array *, struct delegate *);
};

struct delegate {
	void *data;
	int (*prepare)(struct context *, struct delegate *);
	void *copy_from, *copy_to, *release_handle;
	int64_t flags;
	void *opaque;
};

static struct { char mode[24], fault_file[512], place[16]; int at; } told = { .mode = "ok", .place = "invoke", .at = 1 };
static int invokes;

static int faulty(const char *mode)
{
	return !strcmp(told.mode, mode) && (!told.fault_file[0] || !access(told.fault_file, F_OK));
}

static void perish(void)
{
	if (faulty("abort")) {
		fprintf(stderr, "F stand-in/usb.cc:7] transfer on endpoint 1 failed\n");
		abort();
	}
	if (faulty("segv"))
		raise(SIGSEGV);
	if (faulty("exit"))
		_exit(7);
	while (faulty("hang"))
		usleep(20000);
	if (faulty("stuck"))
		for (;;)
			pause();
}

static void *init(struct context *context, const char *buffer, size_t length)
{
	(void)context, (void)buffer, (void)length;
	return &invokes;
}

static void release(struct context *context, void *data)
{
	(void)context, (void)data;
}

static int prepare_node(struct context *context, struct node *node)
{
	(void)node;
	if (!faulty("prepare"))
		return STATUS_OK;
	context->report_error(context, "stand-in: the executable was made for another runtime version");
	return STATUS_ERROR;
}

static int invoke(struct context *context, struct node *node)
{
	const struct tensor *in = &context->tensors[node->inputs->data[0]];
	struct tensor *out = &context->tensors[node->outputs->data[0]];

	if (++invokes >= told.at) {
		if (!strcmp(told.place, "invoke"))
			perish();
		if (faulty("slow"))
			usleep(60000);
		if (faulty("fail")) {
			context->report_error(context, "stand-in: USB transfer failed");
			return STATUS_ERROR;
		}
	}
	memcpy(out->data, in->data, in->bytes);
	if (invokes >= told.at && faulty("wrong")) /* rotate the colours of each pixel */
		for (size_t i = 0; i < in->bytes; i++)
			((char *)out->data)[i] = ((char *)in->data)[i / 3 * 3 + (i + 1) % 3];
	return STATUS_OK;
}

static int prepare(struct context *context, struct delegate *delegate)
{
	struct registration kernel = { .init = init, .release = release, .prepare = prepare_node, .invoke = invoke,
		.builtin_code = BUILTIN_DELEGATE, .custom_name = "StandIn", .version = 1 };
	struct int_array *plan, *ours;
	int status = context->get_execution_plan(context, &plan);

	if (status != STATUS_OK || !(ours = calloc(plan->size + 1, sizeof(int))))
		return STATUS_ERROR;
	for (int i = 0; i < plan->size; i++) {
		struct node *node;
		struct registration *operator;

		context->get_node(context, plan->data[i], &node, &operator);
		if (operator->custom_name && !strcmp(operator->custom_name, "edgetpu-custom-op"))
			ours->data[ours->size++] = plan->data[i];
	}
	status = context->replace(context, kernel, ours, delegate);
	free(ours);
	return status;
}

struct delegate *tflite_plugin_create_delegate(char **keys, char **values, size_t count, void (*report)(const char *))
{
	const char *journal = NULL, *device = "", *performance = "";
	struct delegate *made;
	FILE *file;

	for (size_t i = 0; i < count; i++) {
		if (!strcmp(keys[i], "mode")) snprintf(told.mode, sizeof told.mode, "%s", values[i]);
		else if (!strcmp(keys[i], "at")) told.at = atoi(values[i]);
		else if (!strcmp(keys[i], "while")) snprintf(told.fault_file, sizeof told.fault_file, "%s", values[i]);
		else if (!strcmp(keys[i], "in")) snprintf(told.place, sizeof told.place, "%s", values[i]);
		else if (!strcmp(keys[i], "journal")) journal = values[i];
		else if (!strcmp(keys[i], "device")) device = values[i];
		else if (!strcmp(keys[i], "Performance")) performance = values[i];
	}
	if (journal && (file = fopen(journal, "a"))) {
		fprintf(file, "%d %s %s\n", (int)getpid(), device, performance);
		fclose(file);
	}
	if (!strcmp(told.place, "create"))
		perish();
	if (faulty("refuse")) {
		report("stand-in: the device is claimed by somebody else");
		return NULL;
	}
	if (faulty("refuse-silent") || !(made = calloc(1, sizeof *made)))
		return NULL;
	made->prepare = prepare;
	made->flags = ALLOW_DYNAMIC_TENSORS; /* else the unresolved operator is prepared before we are asked */
	return made;
}

void tflite_plugin_destroy_delegate(struct delegate *delegate)
{
	free(delegate);
}

const char *edgetpu_version(void)
{
	return "stand-in 1";
}

struct device { int type; const char *path; };

struct device *edgetpu_list_devices(size_t *count)
{
	static struct device devices[8];
	static char lines[8][256];
	const char *root = getenv("EDGE_CLASSIFIERD_ROOT");
	char name[512];
	FILE *file;

	*count = 0;
	snprintf(name, sizeof name, "%s/stand-in-devices", root ? root : "");
	if (!(file = fopen(name, "r")))
		return NULL;
	while (*count < 8 && fgets(lines[*count], sizeof lines[0], file)) {
		lines[*count][strcspn(lines[*count], "\n")] = 0;
		devices[*count].type = !strncmp(lines[*count], "/sys/", 5);
		devices[*count].path = lines[*count];
		++*count;
	}
	fclose(file);
	return devices;
}

void edgetpu_free_devices(struct device *devices)
{
	(void)devices;
}
