//! TABLE: directives of nginx: which are carried, which mean nothing here, and what to do about the others.

use super::super::Notes;
use super::lex::Directive;

/// Where a directive stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Level {
    Main,
    Http,
    Server,
    Location,
}

/// Notes what is not carried of a block, apart from the blocks within it.
pub(super) fn report(block: &[Directive], level: Level, notes: &mut Notes) {
    for directive in block {
        let name = directive.name.as_str();
        let nothing =
            MEANINGLESS.contains(&name) || MEANINGLESS_PREFIXES.iter().any(|start| name.starts_with(start));
        if CARRIED.contains(&name) || nothing || level == Level::Main && AT_MAIN.contains(&name) {
            continue;
        }
        let listed = |(known, _): &&(&str, &str)| {
            *known == name || known.strip_suffix('*').is_some_and(|k| name.starts_with(k))
        };
        match LISTED.iter().find(listed) {
            Some((_, help)) => {
                notes.add(&directive.place, format!("`{}` is not carried", directive.words()), *help)
            }
            None => {
                let what = format!("`{}` is not known to the import", directive.words());
                notes.add(&directive.place, what, "look up in the guide whether there is a setting for it");
            }
        }
    }
}

/// Looked at elsewhere, where it is also noted what of them cannot be carried.
const CARRIED: &[&str] = &[
    "server",
    "server_name",
    "listen",
    "location",
    "upstream",
    "http",
    "include",
    "proxy_pass",
    "grpc_pass",
    "proxy_ssl_verify",
    "proxy_ssl_trusted_certificate",
    "proxy_ssl_name",
    "grpc_ssl_verify",
    "grpc_ssl_trusted_certificate",
    "grpc_ssl_name",
    "proxy_set_header",
    "proxy_connect_timeout",
    "proxy_read_timeout",
    "proxy_next_upstream",
    "proxy_next_upstream_tries",
    "proxy_next_upstream_timeout",
    "proxy_hide_header",
    "client_max_body_size",
    "return",
    "rewrite",
    "if",
    "ssl",
    "ssl_certificate",
    "ssl_certificate_key",
    "ssl_client_certificate",
    "ssl_verify_client",
    "ssl_protocols",
    "limit_req_zone",
    "limit_req",
    "limit_req_dry_run",
    "set_real_ip_from",
    "real_ip_header",
    "add_header",
    "modsecurity",
    "modsecurity_rules_file",
    "modsecurity_rules",
    "allow",
    "deny",
    "map",
    "set",
    "limit_conn",
    "try_files",
    "gzip",
    "gzip_types",
    "brotli",
    "brotli_types",
];

const AT_MAIN: &[&str] = &["events", "worker_processes", "user", "pid", "error_log", "worker_rlimit_nofile"];

/// Nothing to carry: how nginx does what Phalanx does in its own way, or what only its log or its cache of files is about.
const MEANINGLESS: &[&str] = &[
    "access_log",
    "log_format",
    "log_not_found",
    "error_log",
    "default_type",
    "types",
    "types_hash_max_size",
    "types_hash_bucket_size",
    "sendfile",
    "tcp_nopush",
    "tcp_nodelay",
    "keepalive_timeout",
    "keepalive_requests",
    "keepalive_time",
    "keepalive_disable",
    "server_tokens",
    "server_names_hash_bucket_size",
    "server_names_hash_max_size",
    "server_name_in_redirect",
    "variables_hash_max_size",
    "variables_hash_bucket_size",
    "map_hash_bucket_size",
    "reset_timedout_connection",
    "http2",
    "http3",
    "quic_retry",
    "resolver",
    "resolver_timeout",
    "charset",
    "etag",
    "merge_slashes",
    "port_in_redirect",
    "absolute_redirect",
    "underscores_in_headers",
    "ignore_invalid_headers",
    "large_client_header_buffers",
    "limit_req_status",
    "limit_req_log_level",
    "limit_conn_zone",
    "limit_conn_status",
    "limit_conn_log_level",
    "real_ip_recursive",
    "real_ip_proxy",
    "daemon",
    "pid",
    "user",
    "load_module",
    "env",
    "pcre_jit",
    "internal_redirect",
    "modsecurity_transaction_id",
    "expires_hash",
];

const MEANINGLESS_PREFIXES: &[&str] = &[
    "worker_",
    "gzip_min_length",
    "gzip_comp_level",
    "gzip_vary",
    "gzip_proxied",
    "gzip_disable",
    "gzip_buffers",
    "gzip_http_version",
    "brotli_comp_level",
    "brotli_min_length",
    "open_file_cache",
    "client_body_",
    "client_header_",
    "output_buffers",
    "postpone_output",
    "send_timeout",
    "lingering_",
    "proxy_buffer",
    "proxy_busy_",
    "proxy_max_temp",
    "proxy_temp_",
    "proxy_http_version",
    "proxy_request_buffering",
    "proxy_headers_hash",
    "proxy_pass_request_",
    "proxy_socket_keepalive",
    "proxy_ssl_server_name",
    "proxy_ssl_session",
    "proxy_ssl_protocols",
    "proxy_ssl_ciphers",
    "proxy_ssl_verify_depth",
    "proxy_send_",
    "proxy_set_body_none",
    "proxy_ignore_client_abort",
    "http2_",
    "http3_",
    "ssl_session",
    "ssl_prefer_server_ciphers",
    "ssl_ciphers",
    "ssl_conf_command",
    "ssl_ecdh_curve",
    "ssl_dhparam",
    "ssl_buffer_size",
    "ssl_early_data",
    "ssl_verify_depth",
    "variables_",
];

const FILES: &str = "Phalanx serves no files: keep a server for them and name it as the upstream";
const CACHE: &str = "Phalanx has no response cache: keep one behind it";
const SCRIPT: &str = "there is no script language: do it in the app, or in a rule of SecLang";
const PASSES: &str = "only HTTP upstreams are carried: put a server that speaks HTTP before it";
const AUTH: &str = "leave it to the app, or to a proxy behind Phalanx";

/// Not carried, with what to do. A `*` at the end stands for any rest.
const LISTED: &[(&str, &str)] = &[
    ("stream", "Phalanx proxies HTTP; keep nginx for plain TCP and UDP"),
    ("mail", "Phalanx proxies HTTP; keep nginx for mail"),
    ("geo", "decisions can be about networks and countries: `phalanx decision add --prefix`, `--country`"),
    ("geoip*", "`[geo]` in phalanx.toml and `phalanx decision add --country`"),
    ("split_clients", "give upstreams a `weight`"),
    ("js_*", SCRIPT),
    ("lua_*", SCRIPT),
    ("perl*", SCRIPT),
    ("*_by_lua", SCRIPT),
    ("access_by_lua*", SCRIPT),
    ("content_by_lua*", SCRIPT),
    ("rewrite_by_lua*", SCRIPT),
    ("header_filter_by_lua*", SCRIPT),
    ("log_by_lua*", SCRIPT),
    ("init_by_lua*", SCRIPT),
    ("root", FILES),
    ("alias", FILES),
    ("index", FILES),
    ("autoindex*", FILES),
    ("expires", "let the app send `Cache-Control`"),
    ("proxy_cache*", CACHE),
    ("proxy_no_cache", CACHE),
    ("fastcgi_*", PASSES),
    ("uwsgi_*", PASSES),
    ("scgi_*", PASSES),
    ("memcached_*", PASSES),
    ("grpc_*", "name the server as an upstream and see the guide on upstreams for HTTP/2"),
    ("auth_basic*", AUTH),
    ("auth_request*", AUTH),
    ("auth_jwt*", AUTH),
    ("satisfy", AUTH),
    ("limit_rate*", "there is no limit of bandwidth"),
    ("limit_except", "write a route with `methods`"),
    (
        "error_page",
        "let the app show its pages; for what Phalanx says itself name the file in `pages = { error = ... }`",
    ),
    ("proxy_intercept_errors", "let the app show its pages"),
    ("proxy_redirect", "let the app send relative redirects, or those with its public name"),
    ("proxy_cookie*", "let the app set its cookies as visitors need them"),
    ("proxy_method", "let the app answer the method that clients send"),
    ("proxy_ssl*", "see the guide on upstreams for HTTPS"),
    ("proxy_bind", "the system chooses the address of connections to upstreams"),
    ("proxy_protocol*", "see the guide for the PROXY protocol"),
    ("proxy_pass_header", "see `response_headers` in the guide"),
    ("proxy_ignore_headers", CACHE),
    ("sub_filter*", "responses are not rewritten: change them in the app"),
    ("gzip_static", FILES),
    ("brotli_static", FILES),
    ("gunzip", "responses go out as the app sends them"),
    ("mirror*", "there is no copy of requests"),
    ("stub_status", "see `/metrics` and the console"),
    ("status_zone", "see `/metrics` and the console"),
    ("internal", "there are no internal redirects"),
    ("ssl_stapling*", "certificates are shown without stapling"),
    ("ssl_trusted_certificate", "certificates are shown without stapling"),
    ("ssl_crl", "give `client_ca` authorities whose certificates are short-lived"),
    ("ssl_password_file", "keep the key without a password, in a file with mode 0600"),
    ("ssl_reject_handshake", "unknown hosts are answered with 421"),
    ("more_*", "see `response_headers` in the guide"),
    ("valid_referers", "write a rule of SecLang"),
    ("userid*", "let the app set its cookies"),
];
