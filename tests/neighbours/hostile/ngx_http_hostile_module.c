/*
 * A neighbour for the tests that treats the phases of a request as no module should.
 *
 * hostile jump         preaccess phase: goes on behind the access phase
 * hostile end          preaccess phase: ends the phase, as a handler that returns NGX_OK does
 * hostile rotate       access phase: moves itself from the first place to the last, or back
 * hostile wake         preaccess phase: from now on, runs the phases of the request every millisecond
 * hostile wait         rewrite phase: waits for a request to a location with "hostile release"
 * hostile release      preaccess phase: lets those that wait in this worker go on
 * hostile shift        rewrite phase: moves itself behind the last handler; then as "release"
 * hostile error        preaccess phase: leaves an error in OpenSSL's queue
 */

#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include <openssl/err.h>


#define NGX_HTTP_HOSTILE_JUMP    1
#define NGX_HTTP_HOSTILE_END     2
#define NGX_HTTP_HOSTILE_ROTATE  3
#define NGX_HTTP_HOSTILE_WAKE    4
#define NGX_HTTP_HOSTILE_WAIT    5
#define NGX_HTTP_HOSTILE_SHIFT   6
#define NGX_HTTP_HOSTILE_RELEASE 7
#define NGX_HTTP_HOSTILE_ERROR   8


typedef struct {
    ngx_uint_t           way;
} ngx_http_hostile_loc_conf_t;


typedef struct {
    ngx_event_t          event;
    ngx_queue_t          queue;
    ngx_http_request_t  *request;
    unsigned             waits:1;
} ngx_http_hostile_ctx_t;


static ngx_int_t ngx_http_hostile_init(ngx_conf_t *cf);
static void *ngx_http_hostile_create_loc_conf(ngx_conf_t *cf);
static char *ngx_http_hostile_merge_loc_conf(ngx_conf_t *cf, void *parent, void *child);


static ngx_conf_enum_t  ngx_http_hostile_ways[] = {
    { ngx_string("jump"), NGX_HTTP_HOSTILE_JUMP },
    { ngx_string("end"), NGX_HTTP_HOSTILE_END },
    { ngx_string("rotate"), NGX_HTTP_HOSTILE_ROTATE },
    { ngx_string("wake"), NGX_HTTP_HOSTILE_WAKE },
    { ngx_string("wait"), NGX_HTTP_HOSTILE_WAIT },
    { ngx_string("shift"), NGX_HTTP_HOSTILE_SHIFT },
    { ngx_string("release"), NGX_HTTP_HOSTILE_RELEASE },
    { ngx_string("error"), NGX_HTTP_HOSTILE_ERROR },
    { ngx_null_string, 0 }
};


static ngx_command_t  ngx_http_hostile_commands[] = {

    { ngx_string("hostile"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_enum_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_hostile_loc_conf_t, way),
      ngx_http_hostile_ways },

      ngx_null_command
};


static ngx_http_module_t  ngx_http_hostile_module_ctx = {
    NULL,                                  /* preconfiguration */
    ngx_http_hostile_init,                 /* postconfiguration */

    NULL,                                  /* create main configuration */
    NULL,                                  /* init main configuration */

    NULL,                                  /* create server configuration */
    NULL,                                  /* merge server configuration */

    ngx_http_hostile_create_loc_conf,      /* create location configuration */
    ngx_http_hostile_merge_loc_conf        /* merge location configuration */
};


ngx_module_t  ngx_http_hostile_module = {
    NGX_MODULE_V1,
    &ngx_http_hostile_module_ctx,          /* module context */
    ngx_http_hostile_commands,             /* module directives */
    NGX_HTTP_MODULE,                       /* module type */
    NULL,                                  /* init master */
    NULL,                                  /* init module */
    NULL,                                  /* init process */
    NULL,                                  /* init thread */
    NULL,                                  /* exit thread */
    NULL,                                  /* exit process */
    NULL,                                  /* exit master */
    NGX_MODULE_V1_PADDING
};


ngx_module_t *ngx_modules[] = { &ngx_http_hostile_module, NULL };
char *ngx_module_names[] = { "ngx_http_hostile_module", NULL };
char *ngx_module_order[] = { NULL };


static ngx_queue_t  ngx_http_hostile_waiting;


static ngx_uint_t
ngx_http_hostile_way(ngx_http_request_t *r)
{
    ngx_http_hostile_loc_conf_t  *hlcf;

    if (r != r->main) {
        return 0;
    }

    hlcf = ngx_http_get_module_loc_conf(r, ngx_http_hostile_module);

    return hlcf->way;
}


static ngx_http_phase_handler_t *
ngx_http_hostile_handlers(ngx_http_request_t *r)
{
    ngx_http_core_main_conf_t  *cmcf;

    cmcf = ngx_http_get_module_main_conf(r, ngx_http_core_module);

    return cmcf->phase_engine.handlers;
}


static void
ngx_http_hostile_wake(ngx_event_t *ev)
{
    ngx_connection_t        *c;
    ngx_http_request_t      *r;
    ngx_http_hostile_ctx_t  *ctx;

    ctx = ev->data;
    r = ctx->request;
    c = r->connection;

    if (!ctx->waits) {
        ngx_add_timer(ev, 1);
    }

    ngx_http_core_run_phases(r);
    ngx_http_run_posted_requests(c);
}


static void
ngx_http_hostile_cleanup(void *data)
{
    ngx_http_hostile_ctx_t  *ctx = data;

    if (ctx->event.timer_set) {
        ngx_del_timer(&ctx->event);
    }

    if (ctx->event.posted) {
        ngx_delete_posted_event(&ctx->event);
    }

    if (ctx->queue.next) {
        ngx_queue_remove(&ctx->queue);
    }
}


static ngx_http_hostile_ctx_t *
ngx_http_hostile_create_ctx(ngx_http_request_t *r)
{
    ngx_pool_cleanup_t      *cln;
    ngx_http_hostile_ctx_t  *ctx;

    cln = ngx_pool_cleanup_add(r->pool, sizeof(ngx_http_hostile_ctx_t));
    if (cln == NULL) {
        return NULL;
    }

    ctx = cln->data;
    ngx_memzero(ctx, sizeof(ngx_http_hostile_ctx_t));
    cln->handler = ngx_http_hostile_cleanup;

    ctx->request = r;
    ctx->event.data = ctx;
    ctx->event.handler = ngx_http_hostile_wake;
    ctx->event.log = r->connection->log;

    ngx_http_set_ctx(r, ctx, ngx_http_hostile_module);

    return ctx;
}


static ngx_int_t
ngx_http_hostile_rewrite_handler(ngx_http_request_t *r)
{
    ngx_uint_t                 i;
    ngx_http_hostile_ctx_t    *ctx;
    ngx_http_phase_handler_t  *ph, own;

    switch (ngx_http_hostile_way(r)) {

    case NGX_HTTP_HOSTILE_WAIT:
        if (ngx_http_get_module_ctx(r, ngx_http_hostile_module) != NULL) {
            return NGX_DECLINED;
        }

        ctx = ngx_http_hostile_create_ctx(r);
        if (ctx == NULL) {
            return NGX_ERROR;
        }

        ctx->waits = 1;
        ngx_queue_insert_tail(&ngx_http_hostile_waiting, &ctx->queue);
        r->phase_handler++;

        return NGX_DONE;

    case NGX_HTTP_HOSTILE_SHIFT:
        ph = ngx_http_hostile_handlers(r);
        i = r->phase_handler;

        if (ph[i + 1].checker != ngx_http_core_rewrite_phase) {
            return NGX_DECLINED;
        }

        own = ph[i];

        while (ph[i + 1].checker == ngx_http_core_rewrite_phase) {
            ph[i] = ph[i + 1];
            i++;
        }

        ph[i] = own;
        r->phase_handler--;
        break;
    }

    return NGX_DECLINED;
}


static ngx_int_t
ngx_http_hostile_preaccess_handler(ngx_http_request_t *r)
{
    ngx_uint_t                 i;
    ngx_queue_t               *q;
    ngx_http_hostile_ctx_t    *ctx;
    ngx_http_phase_handler_t  *ph;

    switch (ngx_http_hostile_way(r)) {

    case NGX_HTTP_HOSTILE_JUMP:
        ph = ngx_http_hostile_handlers(r);

        for (i = r->phase_handler; ph[i].checker != ngx_http_core_post_access_phase; i++) {
            /* void */
        }

        r->phase_handler = i;
        return NGX_DECLINED;

    case NGX_HTTP_HOSTILE_END:
        return NGX_OK;

    case NGX_HTTP_HOSTILE_WAKE:
        if (ngx_http_get_module_ctx(r, ngx_http_hostile_module) != NULL) {
            return NGX_DECLINED;
        }

        ctx = ngx_http_hostile_create_ctx(r);
        if (ctx == NULL) {
            return NGX_ERROR;
        }

        ngx_add_timer(&ctx->event, 1);
        return NGX_DECLINED;

    case NGX_HTTP_HOSTILE_SHIFT:
    case NGX_HTTP_HOSTILE_RELEASE:

        while (!ngx_queue_empty(&ngx_http_hostile_waiting)) {
            q = ngx_queue_head(&ngx_http_hostile_waiting);
            ngx_queue_remove(q);
            q->next = NULL;
            ctx = ngx_queue_data(q, ngx_http_hostile_ctx_t, queue);
            ngx_post_event(&ctx->event, &ngx_posted_events);
        }

        return NGX_DECLINED;

    case NGX_HTTP_HOSTILE_ERROR:
        ERR_put_error(ERR_LIB_USER, 0, ERR_R_INTERNAL_ERROR, __FILE__, __LINE__);
        return NGX_DECLINED;
    }

    return NGX_DECLINED;
}


static ngx_int_t
ngx_http_hostile_access_handler(ngx_http_request_t *r)
{
    ngx_uint_t                 i;
    ngx_http_phase_handler_t  *ph, own;

    if (ngx_http_hostile_way(r) != NGX_HTTP_HOSTILE_ROTATE
        || ngx_http_get_module_ctx(r, ngx_http_hostile_module) != NULL)
    {
        return NGX_DECLINED;
    }

    /* once for each request: it is entered again where it has moved to */
    ngx_http_set_ctx(r, &ngx_http_hostile_waiting, ngx_http_hostile_module);

    ph = ngx_http_hostile_handlers(r);
    i = r->phase_handler;
    own = ph[i];

    if (ph[i + 1].checker == ngx_http_core_post_access_phase) {
        /* it is the last one: to the front again, where the next request finds it */
        while (ph[i - 1].checker == ngx_http_core_access_phase) {
            ph[i] = ph[i - 1];
            i--;
        }

        ph[i] = own;
        return NGX_DECLINED;
    }

    while (ph[i + 1].checker != ngx_http_core_post_access_phase) {
        ph[i] = ph[i + 1];
        i++;
    }

    ph[i] = own;
    r->phase_handler--;

    return NGX_DECLINED;
}


static ngx_int_t
ngx_http_hostile_init(ngx_conf_t *cf)
{
    ngx_http_handler_pt        *h;
    ngx_http_core_main_conf_t  *cmcf;

    ngx_queue_init(&ngx_http_hostile_waiting);

    cmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_core_module);

    h = ngx_array_push(&cmcf->phases[NGX_HTTP_REWRITE_PHASE].handlers);
    if (h == NULL) {
        return NGX_ERROR;
    }

    *h = ngx_http_hostile_rewrite_handler;

    h = ngx_array_push(&cmcf->phases[NGX_HTTP_PREACCESS_PHASE].handlers);
    if (h == NULL) {
        return NGX_ERROR;
    }

    *h = ngx_http_hostile_preaccess_handler;

    h = ngx_array_push(&cmcf->phases[NGX_HTTP_ACCESS_PHASE].handlers);
    if (h == NULL) {
        return NGX_ERROR;
    }

    *h = ngx_http_hostile_access_handler;

    return NGX_OK;
}


static void *
ngx_http_hostile_create_loc_conf(ngx_conf_t *cf)
{
    ngx_http_hostile_loc_conf_t  *conf;

    conf = ngx_pcalloc(cf->pool, sizeof(ngx_http_hostile_loc_conf_t));
    if (conf == NULL) {
        return NULL;
    }

    conf->way = NGX_CONF_UNSET_UINT;

    return conf;
}


static char *
ngx_http_hostile_merge_loc_conf(ngx_conf_t *cf, void *parent, void *child)
{
    ngx_http_hostile_loc_conf_t  *prev = parent;
    ngx_http_hostile_loc_conf_t  *conf = child;

    ngx_conf_merge_uint_value(conf->way, prev->way, 0);

    return NGX_CONF_OK;
}
