/* A stand-in for libedgetpu: the parts of its interface that loading, listing and opening use.

   FAKE_EDGETPU_DEVICES   "usb /sys/a;pci /dev/apex_0": what is attached
   FAKE_EDGETPU_BUSY      device options that cannot be opened, for example ":1"
   FAKE_EDGETPU_CRASH     "list" or "open": where the driver aborts
   FAKE_EDGETPU_SLOW_S    seconds that opening takes
   FAKE_EDGETPU_PULLED    a file: once it is there, the driver of an open device aborts, as the real
                          one does when a stick is pulled out

   Its delegate claims no operator, so an uncompiled model runs on the processor. */

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MOST = 8, LONGEST = 128 };

struct device {
  int type;
  const char *path;
};

struct delegate {
  void *data;
  int (*prepare)(void *context, struct delegate *self);
  void *copy_from;
  void *copy_to;
  void *free_buffer;
  int64_t flags;
  void *opaque;
};

static const char *setting(const char *name) {
  const char *value = getenv(name);
  return value ? value : "";
}

static int crashes(const char *where) {
  return strcmp(setting("FAKE_EDGETPU_CRASH"), where) == 0;
}

static size_t scan(struct device *devices) {
  char text[MOST * LONGEST];
  size_t count = 0;
  snprintf(text, sizeof text, "%s", setting("FAKE_EDGETPU_DEVICES"));
  for (char *one = strtok(text, ";"); one && count < MOST; one = strtok(NULL, ";")) {
    devices[count].type = strncmp(one, "usb ", 4) == 0;
    devices[count++].path = strdup(one + 4);
  }
  return count;
}

struct device *edgetpu_list_devices(size_t *count) {
  struct device *devices = calloc(MOST, sizeof *devices);
  if (crashes("list")) abort();
  *count = scan(devices);
  return devices;
}

void edgetpu_free_devices(struct device *devices) { free(devices); }

static int prepare(void *context, struct delegate *self) {
  (void)context;
  (void)self;
  return 0;
}

static void *watch(void *file) {
  while (access(file, F_OK) != 0) usleep(2000);
  abort();
}

struct delegate *tflite_plugin_create_delegate(const char *const *keys, const char *const *values,
                                               size_t n, void (*complain)(const char *)) {
  struct device devices[MOST];
  size_t wanted = 0;
  (void)complain;
  if (crashes("open")) abort();
  sleep((unsigned)atoi(setting("FAKE_EDGETPU_SLOW_S")));
  for (size_t i = 0; i < n; i++) {
    if (strcmp(keys[i], "device") != 0) continue;
    if (values[i][0] && strcmp(values[i], setting("FAKE_EDGETPU_BUSY")) == 0) return NULL;
    if (values[i][0] == ':') wanted = (size_t)atoi(values[i] + 1);
  }
  if (wanted >= scan(devices)) return NULL;
  pthread_t watcher;
  if (setting("FAKE_EDGETPU_PULLED")[0])
    pthread_create(&watcher, NULL, watch, (void *)setting("FAKE_EDGETPU_PULLED"));
  struct delegate *made = calloc(1, sizeof *made);
  made->prepare = prepare;
  return made;
}

void tflite_plugin_destroy_delegate(struct delegate *made) { free(made); }
