/*
 * What LeakSanitizer needs of the program, linked into the nginx of `make test-asan`.
 */

#include <ngx_config.h>
#include <ngx_core.h>


int __lsan_is_turned_off(void);
const char *__lsan_default_suppressions(void);
int dlclose(void *handle);


/*
 * Only a worker frees what it has allocated before it exits. "nginx -t" and the master leave the
 * first cycle's pool to the system.
 */

int
__lsan_is_turned_off(void)
{
    return ngx_process != NGX_PROCESS_WORKER;
}


/* A worker never frees its connections and events: ngx_event_process_init() allocates them once. */

const char *
__lsan_default_suppressions(void)
{
    return "leak:ngx_event_process_init\n";
}


/*
 * A worker unloads its modules before it exits, and with them goes the knowledge whose code an
 * address in a report is. They stay loaded instead.
 */

int
dlclose(void *handle)
{
    (void) handle;
    return 0;
}
