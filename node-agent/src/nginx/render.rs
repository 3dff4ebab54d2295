//! The configuration that Nginx runs with: a pure function of a few settings.
//!
//! No application stands in it, so it changes only with the ports or with Berth itself; see
//! `docs/decisions/0003-nginx-routes.md`.

use aws_lc_rs::digest;

use super::syntax::{Arg, Directive, NotAWord, Word, print};

/// The Lua that leads requests to instances.
pub(super) const LUA: &str = include_str!("berth.lua");

/// What the configuration depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Settings {
    /// Port of plain HTTP.
    pub(super) http_port: u16,
    /// Whether this machine has IPv6.
    pub ipv6: bool,
    /// The user that workers run as, if Nginx is started by root; otherwise they are who starts it.
    pub(super) user: Option<String>,
    /// The dynamic modules to load, by path.
    pub(super) modules: Vec<String>,
    /// Folder of files, absolute, ending without a slash.
    pub(super) prefix: String,
}

/// A configuration, ready to be written to a folder of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rendered {
    /// The name of the folder: a hash of all that is in it, so that equal configurations share one.
    pub(super) name: String,
    /// Text of `nginx.conf`.
    pub(super) conf: String,
}

/// Where the agent talks to its Nginx, below the prefix.
pub(super) const SOCKET: &str = "admin.sock";
/// The access log, below the prefix.
pub(super) const ACCESS_LOG: &str = "access.log";
/// The error log, below the prefix.
pub(super) const ERROR_LOG: &str = "error.log";
/// Where the number of the master process stands, below the prefix.
pub(super) const PID_FILE: &str = "nginx.pid";

/// How many requests of one address may be open: a company, or another proxy, is one address.
const ADDRESS_REQUESTS_MAX: &str = "1000";
/// How many requests of one host may be open: half of what a worker serves, for each takes two connections.
const HOST_REQUESTS_MAX: &str = "2000";

/// Renders the configuration.
pub(super) fn render(settings: &Settings) -> Result<Rendered, NotAWord> {
    // The name stands in the configuration, so it is made from one that has none.
    let draft = print(&configuration(settings, "draft")?);
    let hash = digest::digest(&digest::SHA256, format!("{draft}\0{LUA}").as_bytes());
    let name = hex::encode(&hash.as_ref()[..8]);
    Ok(Rendered { conf: print(&configuration(settings, &name)?), name })
}

fn configuration(settings: &Settings, name: &str) -> Result<Vec<Directive>, NotAWord> {
    let fixed = Directive::fixed;
    let mut main = Vec::new();
    for module in &settings.modules {
        main.push(Directive::new("load_module", [Word::new(module)?.into()]));
    }
    if let Some(user) = &settings.user {
        main.push(Directive::new("user", [Word::new(user)?.into()]));
    }
    main.extend([
        fixed("worker_processes", &["auto"]),
        // Each request may need two connections; the files of one worker follow from that.
        fixed("worker_rlimit_nofile", &["32768"]),
        // A request that is under way when the configuration changes may take a minute to end.
        fixed("worker_shutdown_timeout", &["60s"]),
        fixed("error_log", &[ERROR_LOG, "warn"]),
        fixed("pid", &[PID_FILE]),
        Directive::block("events", [], vec![fixed("worker_connections", &["8192"]), fixed("multi_accept", &["on"])]),
        Directive::block("http", [], http(settings, name)?),
    ]);
    Ok(main)
}

fn http(settings: &Settings, name: &str) -> Result<Vec<Directive>, NotAWord> {
    let fixed = Directive::fixed;
    let mut http = Vec::new();
    if settings.user.is_none() {
        // Nginx's own folders for large bodies are there for root only.
        http.extend(TEMPORARY.iter().map(|(name, folder)| fixed(name, &[folder])));
    }
    http.extend([
        fixed("server_tokens", &["off"]),
        fixed("default_type", &["application/octet-stream"]),
        fixed("tcp_nodelay", &["on"]),
        // 64 MiB hold more than 100,000 hosts; memory is taken only for what is there.
        fixed("lua_shared_dict", &["berth_routes", "64m"]),
        fixed("lua_shared_dict", &["berth_failed", "1m"]),
        // A mebibyte holds 8,000 states, and there are no more of them than open requests.
        fixed("limit_conn_zone", &["$binary_remote_addr", "zone=berth_addresses:8m"]),
        fixed("limit_conn_zone", &["$host", "zone=berth_hosts:8m"]),
        fixed("limit_conn_status", &["429"]),
        fixed("limit_conn_log_level", &["info"]),
        Directive::new(
            "init_by_lua_file",
            [Word::new(format!("{}/generations/{name}/berth.lua", settings.prefix))?.into()],
        ),
        // A client may take its time between requests, but not to send one.
        fixed("client_header_timeout", &["15s"]),
        fixed("client_body_timeout", &["60s"]),
        fixed("send_timeout", &["60s"]),
        fixed("reset_timedout_connection", &["on"]),
        fixed("keepalive_timeout", &["75s"]),
        fixed("keepalive_requests", &["10000"]),
        fixed("client_max_body_size", &["100m"]),
        fixed("large_client_header_buffers", &["4", "16k"]),
        fixed("gzip", &["on"]),
        fixed("gzip_vary", &["on"]),
        fixed("gzip_proxied", &["any"]),
        fixed("gzip_min_length", &["1024"]),
        Directive::new("gzip_types", GZIP_TYPES.iter().map(|kind| Arg::from(*kind))),
        fixed("log_format", &["berth", "escape=json", LOG_FORMAT]),
        fixed("access_log", &[ACCESS_LOG, "berth", "buffer=64k", "flush=1s"]),
        Directive::block(
            "map",
            ["$http_upgrade".into(), "$berth_connection".into()],
            vec![fixed("default", &["upgrade"]), Directive::fixed("", &[""])],
        ),
        // The host that was looked up, with the port that the client wrote behind it.
        Directive::block(
            "map",
            ["$http_host".into(), "$berth_port".into()],
            vec![fixed("default", &[""]), fixed("~(?<port>:[0-9]+)$", &["$port"])],
        ),
        Directive::block(
            "upstream",
            ["berth_instances".into()],
            vec![
                // Never asked: the balancer names an instance for every request.
                fixed("server", &["0.0.0.1"]),
                Directive::lua("balancer_by_lua_block", "berth.balance()"),
                fixed("keepalive", &["512"]),
                fixed("keepalive_requests", &["10000"]),
                // Shorter than the time after which common servers close an idle connection (5 s for Node.js), so that
                // no request is sent into a connection that is about to close.
                fixed("keepalive_timeout", &["1s"]),
            ],
        ),
    ]);
    http.push(Directive::block("server", [], entrance(settings)));
    let socket = Word::new(format!("unix:{}/{SOCKET}", settings.prefix))?;
    http.push(Directive::block(
        "server",
        [],
        vec![
            Directive::new("listen", [socket.into()]),
            Directive::new("set", ["$berth_config".into(), Word::new(name)?.into()]),
            fixed("access_log", &["off"]),
            fixed("client_body_buffer_size", &["1m"]),
            // 100,000 hosts of 200 bytes are 20 MB.
            fixed("client_max_body_size", &["64m"]),
            Directive::block("location", ["/".into()], vec![Directive::lua("content_by_lua_block", "berth.admin()")]),
        ],
    ));
    Ok(http)
}

/// The one server that all hosts come to.
fn entrance(settings: &Settings) -> Vec<Directive> {
    let fixed = Directive::fixed;
    let port = settings.http_port;
    let listen = |address: String| {
        let address = Word::new(address).expect("an address of digits and colons is a word");
        Directive::new("listen", [address.into(), "default_server".into(), "backlog=4096".into()])
    };
    let mut server = vec![listen(format!("0.0.0.0:{port}"))];
    if settings.ipv6 {
        server.push(listen(format!("[::]:{port}")));
    }
    server.extend([
        fixed("server_name", &["_"]),
        fixed("set", &["$berth_uid", ""]),
        fixed("set", &["$berth_application", ""]),
        fixed("error_page", &["502", "503", "504", "@failed"]),
    ]);
    let mut location = vec![
        Directive::lua("access_by_lua_block", "berth.access()"),
        fixed("proxy_pass", &["http://berth_instances"]),
        fixed("proxy_http_version", &["1.1"]),
        // An instance is on this machine: longer than one lost packet takes to be sent again.
        fixed("proxy_connect_timeout", &["2s"]),
        // Longer than the pings of WebSocket libraries and the waits of long polls.
        fixed("proxy_read_timeout", &["300s"]),
        fixed("proxy_send_timeout", &["60s"]),
        fixed("proxy_buffer_size", &["16k"]),
        fixed("proxy_buffers", &["16", "16k"]),
        fixed("proxy_busy_buffers_size", &["64k"]),
        // An answer that a client takes slowly waits in its instance and not on the node's disk.
        fixed("proxy_max_temp_file_size", &["0"]),
        fixed("limit_conn", &["berth_addresses", ADDRESS_REQUESTS_MAX]),
        fixed("limit_conn", &["berth_hosts", HOST_REQUESTS_MAX]),
        // Another instance is asked when one goes away; requests that may change something are not sent twice.
        fixed("proxy_next_upstream", &["error", "timeout"]),
        fixed("proxy_next_upstream_timeout", &["10s"]),
    ];
    // What a client says of itself in these is replaced or dropped: an application may trust them.
    location.extend(HEADERS.iter().map(|(name, value)| fixed("proxy_set_header", &[name, value])));
    server.push(Directive::block("location", ["/".into()], location));
    server.push(Directive::block(
        "location",
        ["@failed".into()],
        vec![Directive::lua("content_by_lua_block", "berth.failed()")],
    ));
    server
}

const TEMPORARY: [(&str, &str); 5] = [
    ("client_body_temp_path", "temporary-body"),
    ("proxy_temp_path", "temporary-proxy"),
    ("fastcgi_temp_path", "temporary-fastcgi"),
    ("uwsgi_temp_path", "temporary-uwsgi"),
    ("scgi_temp_path", "temporary-scgi"),
];

const HEADERS: [(&str, &str); 11] = [
    ("Host", "$host$berth_port"),
    ("X-Forwarded-For", "$remote_addr"),
    ("X-Forwarded-Host", "$host$berth_port"),
    ("X-Forwarded-Proto", "$scheme"),
    ("X-Forwarded-Port", "$server_port"),
    ("X-Real-IP", "$remote_addr"),
    ("X-Request-Id", "$request_id"),
    ("Forwarded", ""),
    ("Proxy", ""),
    ("Upgrade", "$http_upgrade"),
    ("Connection", "$berth_connection"),
];

const GZIP_TYPES: [&str; 12] = [
    "application/javascript",
    "application/json",
    "application/manifest+json",
    "application/wasm",
    "application/xml",
    "application/rss+xml",
    "image/svg+xml",
    "text/css",
    "text/javascript",
    "text/markdown",
    "text/plain",
    "text/xml",
];

const LOG_FORMAT: &str = concat!(
    r#"{"time":"$time_iso8601","uid":"$berth_uid","application":"$berth_application","host":"$host","#,
    r#""client":"$remote_addr","method":"$request_method","path":"$uri","protocol":"$server_protocol","#,
    r#""status":"$status","received":"$request_length","sent":"$bytes_sent","seconds":"$request_time","#,
    r#""upstream":"$upstream_addr","upstreamSeconds":"$upstream_response_time","request":"$request_id"}"#
);

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        Settings {
            http_port: 8080,
            ipv6: true,
            user: Some("www-data".to_owned()),
            modules: vec!["/usr/lib/nginx/modules/ngx_http_lua_module.so".to_owned()],
            prefix: "/var/lib/berth/nginx".to_owned(),
        }
    }

    #[test]
    fn the_configuration_reads_like_this() {
        let rendered = render(&settings()).unwrap();
        // The name is a hash that changes with every word of the Lua.
        insta::assert_snapshot!(rendered.conf.replace(&rendered.name, "NAME"));
    }

    #[test]
    fn a_folder_is_named_after_what_is_in_it() {
        let one = render(&settings()).unwrap();
        let other = render(&Settings { http_port: 8081, ..settings() }).unwrap();
        assert_eq!(one, render(&settings()).unwrap());
        assert_ne!(one.name, other.name);
    }

    #[test]
    fn a_folder_that_could_end_a_directive_is_refused() {
        assert!(render(&Settings { prefix: "/srv/a;b".to_owned(), ..settings() }).is_err());
    }
}
