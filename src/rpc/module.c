/* module.c - loads modules: from the installation's module folder, or from the build tree while running from it. */
#include "rpc/module.h"

#include "base/base.h"
#include "rpc/service.h"

#include <dlfcn.h>
#include <stdio.h>
#include <unistd.h>

#define MODULES_MOST 16

static struct { char name[64]; const struct yarilo_module *module; } loaded[MODULES_MOST];

static void log_for_module(const char *text)
{
    log_error(NULL, "%s", text);
}

/* libtool keeps what is not installed in .libs/ of the build tree. */
static void module_path(const char *name, char *out, size_t size)
{
    if (strcmp(service_libexec_dir(), BUILD_LIBEXEC) == 0)
        snprintf(out, size, "%s/../.libs/%s.so", BUILD_LIBEXEC, name);
    else
        snprintf(out, size, "%s/%s.so", PKGLIBDIR, name);
}

const struct yarilo_module *module_load(const char *name, struct error *e)
{
    static const struct yarilo_host host = {YARILO_MODULE_VERSION, log_for_module};
    const struct yarilo_module *module;
    yarilo_module_fn *get;
    char path[4096];
    void *handle;
    size_t i;

    for (i = 0; i < MODULES_MOST && loaded[i].module != NULL; i++)
        if (strcmp(loaded[i].name, name) == 0)
            return loaded[i].module;
    module_path(name, path, sizeof(path));
    handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (handle == NULL) {
        error_set(e, ERROR_UNSUPPORTED, "Couldn't load module: %s", dlerror());
        return NULL;
    }
    get = (yarilo_module_fn *)(uintptr_t)dlsym(handle, "yarilo_module");
    module = get == NULL ? NULL : get(&host);
    if (module == NULL || module->version != YARILO_MODULE_VERSION || i == MODULES_MOST ||
        strlen(name) >= sizeof(loaded[i].name)) {
        error_set(e, ERROR_UNSUPPORTED, "Couldn't use module %s: it is of another version", path);
        dlclose(handle);
        return NULL;
    }
    snprintf(loaded[i].name, sizeof(loaded[i].name), "%s", name);
    loaded[i].module = module;
    return module;
}
