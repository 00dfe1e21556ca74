/*
 * Stands in for a module that authenticates by "Negotiate": the header says whose ticket it is,
 * and is believed. For tests only.
 */

#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

static const u_char scheme[] = "negotiate ";

static ngx_int_t
believe(ngx_http_request_t *r)
{
    size_t      length = sizeof(scheme) - 1;
    ngx_str_t  *value;

    if (r->headers_in.authorization == NULL) {
        return NGX_DECLINED;
    }

    value = &r->headers_in.authorization->value;
    if (value->len <= length
        || ngx_strncasecmp(value->data, (u_char *) scheme, length) != 0)
    {
        return NGX_DECLINED;
    }

    r->headers_in.user.data = value->data + length;
    r->headers_in.user.len = value->len - length;
    return NGX_DECLINED;
}

static ngx_int_t
install(ngx_conf_t *cf)
{
    ngx_http_handler_pt        *handler;
    ngx_http_core_main_conf_t  *core;

    core = ngx_http_conf_get_module_main_conf(cf, ngx_http_core_module);
    handler = ngx_array_push(&core->phases[NGX_HTTP_PREACCESS_PHASE].handlers);
    if (handler == NULL) {
        return NGX_ERROR;
    }

    *handler = believe;
    return NGX_OK;
}

static ngx_http_module_t context = {
    NULL, install, NULL, NULL, NULL, NULL, NULL, NULL
};

ngx_module_t testbed_negotiate_module = {
    NGX_MODULE_V1,
    &context,
    NULL,
    NGX_HTTP_MODULE,
    NULL, NULL, NULL, NULL, NULL, NULL, NULL,
    NGX_MODULE_V1_PADDING
};

ngx_module_t *ngx_modules[] = { &testbed_negotiate_module, NULL };
char *ngx_module_names[] = { "testbed_negotiate_module", NULL };
char *ngx_module_order[] = { NULL };
