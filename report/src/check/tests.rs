//! The findings of configurations, and what is measured in them.

use proptest::prelude::*;

use super::findings::{Finding, Severity};
use super::report::Report;
use super::*;

/// The result for the directives of `http`, which begins in line 2. The module is loaded in line 1.
fn report_of(http: &str) -> Report {
    report_of_file(&format!("load_module modules/ngx_http_request_cpu_module.so;\nhttp {{ {http}\n}}"))
}

fn report_of_file(text: &str) -> Report {
    let dump = Dump::of(text.as_bytes(), "n");
    let directives = tree::read(&dump).unwrap();
    let model = Model::of(&directives);
    let findings = rules::find(&model);
    Report::of(&dump, &model, findings)
}

/// Identifiers of findings with their lines; `?` is before a note.
fn found(report: &Report) -> Vec<String> {
    let one = |finding: &Finding| {
        let mark = if finding.severity == Severity::Note { "?" } else { "" };
        let line = finding.place.as_ref().map_or_else(String::new, |place| format!("@{}", place.line));
        format!("{mark}{}{line}", finding.id)
    };
    report.findings.iter().map(one).collect()
}

const ZONE: &str = "request_cpu_zone $server_name zone=d:8m; request_cpu zone=d;";

#[test]
fn a_good_configuration_has_no_finding() {
    let report = report_of(&format!(
        "{ZONE}
        server {{ listen 127.0.0.1:8099; location = /cpu {{ request_cpu_status; request_cpu off; }} }}
        server {{ listen 80 default_server; server_name _; return 444; }}
        server {{ listen 80; server_name a.test; location / {{ }} }}
        server {{ listen 10.0.0.5:8099; server_name s; location = /cpu {{
            request_cpu_status; allow 10.0.0.9; deny all; }} }}"
    ));
    assert_eq!(found(&report), [""; 0]);
    assert!(!report.has_warnings());
}

#[test]
fn mistakes_are_found_with_their_lines() {
    let server = "\nserver { listen 80; server_name a.test; location / { } }";
    let status = |inner: &str| {
        format!(
            "{ZONE} server {{ listen 80; server_name a.test; location / {{ }} location = /cpu {{ request_cpu_status;\n{inner} }} }}"
        )
    };
    let keyed = |key: &str| format!("request_cpu_zone {key} zone=d:8m; request_cpu zone=d; {server}");
    let many: String = (0..6000).map(|n| format!("server {{ server_name s{n}.test; }} ")).collect();
    for (http, expected) in [
        // the use of zones
        (server.to_owned(), vec!["nothing-measured@1"]),
        (format!("request_cpu_zone $server_name zone=d:8m;{server}"), vec!["nothing-measured@1", "zone-unused@2"]),
        (format!("{ZONE}\nrequest_cpu_zone $server_name zone=e:8m;{server}"), vec!["zone-unused@3"]),
        (
            format!("{ZONE}\nrequest_cpu_zone $server_name zone=e:8m; request_cpu_limit zone=e cores=1;{server}"),
            vec!["limit-without-zone@3"],
        ),
        (
            format!(
                "{ZONE} request_cpu_limit zone=d cores=1; server {{ listen 80; server_name a; location / {{\n\
                 location /b {{ request_cpu off; }} }} }}"
            ),
            vec!["?limit-uncounted@2"],
        ),
        (format!("{ZONE}\nrequest_cpu_log /l zone=d;{server}"), vec!["?log-without-state@3"]),
        (
            format!("request_cpu_zone $server_name zone=d:8m state=s; request_cpu zone=d; request_cpu_log /l zone=d;{server}"),
            vec![],
        ),
        // sizes
        (format!("{ZONE} {many}"), vec!["zone-too-small@2"]),
        (format!("request_cpu_zone $server_name zone=d:16m; request_cpu zone=d; {many}"), vec![]),
        // keys
        (keyed("$arg_tenant"), vec!["key-of-clients@2"]),
        (keyed("\"$server_name $uri\""), vec!["key-of-clients@2"]),
        (keyed("$http_host"), vec!["key-of-clients@2"]),
        (keyed("${cookie_a}"), vec!["key-of-clients@2"]),
        (keyed("$host"), vec!["key-of-clients@2"]),
        (keyed("$remote_addr"), vec![]),
        (
            format!("map $host $tenant {{ a.test a; default $host; }} {}", keyed("$tenant")),
            vec!["key-of-clients@2"],
        ),
        (format!("map $host $tenant {{ a.test a; default other; }} {}", keyed("$tenant")), vec![]),
        (format!("map $a $b {{ default $b; }} {}", keyed("$b")), vec![]),
        // a circle of maps with many values
        (format!("map $a $b {{ {}default other; }} {}", "x $b; ".repeat(50), keyed("$b")), vec![]),
        // HTTP/3 has a default server of its own
        (
            "request_cpu_zone $host zone=d:8m; request_cpu zone=d; server { listen 443 quic default_server; \
             request_cpu off; } server { listen 443 ssl; server_name a; }"
                .to_owned(),
            vec!["key-of-clients@2"],
        ),
        (
            format!(
                "request_cpu_zone $host zone=d:8m; request_cpu zone=d; server {{ listen 80 default_server; \
                 request_cpu off; }} {server}"
            ),
            vec![],
        ),
        (
            "request_cpu_zone $host zone=d:8m; request_cpu zone=d; server { listen 80; request_cpu off; } \
             server { listen 80; server_name *.a.test; }"
                .to_owned(),
            vec!["key-of-clients@2"],
        ),
        (
            "request_cpu_zone $host zone=d:8m; request_cpu zone=d; server { listen 127.0.0.1:80; }".to_owned(),
            vec![],
        ),
        (format!("{ZONE}\nserver {{ listen 80; location / {{ }} }}"), vec!["server-without-name@3"]),
        (
            "request_cpu_zone $http_host zone=d:8m; request_cpu zone=d; server { server_name a; listen 443 quic; }"
                .to_owned(),
            vec!["key-of-clients@2", "http-host-with-http3@2"],
        ),
        // the status
        (status(""), vec!["status-open@2"]),
        (status("allow 10.0.0.0/8;"), vec!["status-open@2"]),
        (status("auth_basic off;"), vec!["status-open@2"]),
        (status("limit_except GET { deny all; }"), vec!["status-open@2"]),
        (status("allow all;"), vec![]),
        (status("allow 10.0.0.0/8; deny all;"), vec![]),
        (status("auth_basic a; auth_basic_user_file u;"), vec![]),
        (status("auth_basic a;"), vec!["status-open@2"]),
        (format!("auth_basic_user_file u; {}", status("auth_basic a;")), vec![]),
        (status("auth_basic a; auth_request /a;"), vec![]),
        (format!("access_by_lua_no_postpone on; {}", status("")), vec!["status-open@2"]),
        (status("auth_jwt a;"), vec![]),
        (status("access_by_lua_block { ngx.exit(403) }"), vec![]),
        (status("internal;"), vec![]),
        (status("if ($arg_x) { return 403; }"), vec![]),
        (status("} if ($arg_x) { return 403; } location /x {"), vec!["status-open@2"]),
        (status("} return 404; location /x {"), vec![]),
        (status("} return 301 https://$host; location /x {"), vec![]),
        (status("} if ($arg_x) { break; } return 301 https://$host; location /x {"), vec!["status-open@2"]),
        (status("return 301 /;"), vec![]),
        (
            status("} location /n { return 404; location /n/cpu { request_cpu_status; }"),
            vec!["status-open@2", "status-open@3"],
        ),
        (
            status("deny all; } location /n { if ($arg_x) { return 403; }\nlocation /n/cpu { request_cpu_status; }"),
            vec!["status-open@4"],
        ),
        (status("deny all; } location /i { internal; location /i/j { request_cpu_status; }"), vec![]),
        (format!("deny all; {}", status("")), vec![]),
        (
            "server { listen 127.0.0.1:80; location /cpu {\nrequest_cpu_status; } }".to_owned(),
            vec!["nothing-measured@1", "status-without-zone@3"],
        ),
        // variables and threads
        (
            format!("log_format l\n'$host $request_cpu_ns'; access_log /l l;{server}"),
            vec!["?variable-without-zone@2"],
        ),
        (format!("{ZONE}\nlog_format l '$host ${{request_cpu_time}}';{server}"), vec!["?format-unused@3"]),
        (format!("{ZONE} log_format l '$request_cpu_time'; server {{ server_name a; access_log /l L; }}"), vec![]),
        (format!("{ZONE}{server}\naio threads=default;"), vec!["?aio-threads@4"]),
    ] {
        assert_eq!(found(&report_of(&http)), expected, "{http:.300}");
    }
}

#[test]
fn a_module_that_is_not_loaded_is_found() {
    assert_eq!(found(&report_of_file("http { server { listen 80; } }")), ["module-not-loaded"]);
    // built into NGINX
    let built_in = format!("http {{ {ZONE} server {{ server_name a; }} }}");
    assert_eq!(found(&report_of_file(&built_in)), [""; 0]);
    let in_log = "http { log_format l '$request_cpu_time'; server { server_name a; access_log /l l; } }";
    assert_eq!(found(&report_of_file(in_log)), ["?variable-without-zone@1"]);
}

#[test]
fn a_second_http_is_refused() {
    let read = |text: &str| {
        let dump = Dump::of(text.as_bytes(), "n");
        refuse_second_http(&tree::read(&dump).unwrap()).map_err(|error| error.to_string())
    };
    assert_eq!(read("http { }\nstream { }"), Ok(()));
    assert_eq!(read("http { }\nhttp { }"), Err("n:2: \"http\" is duplicate".to_owned()));
}

/// A file that takes nothing.
struct Refuses(io::ErrorKind);

impl Write for Refuses {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(self.0.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_result_that_cannot_be_written_is_no_warning() {
    let report = report_of(ZONE);
    for json in [true, false] {
        let error = |kind| unwritten(write(&mut Refuses(kind), &report, json).unwrap_err());
        assert!(error(io::ErrorKind::StorageFull).is::<Wrong>());
        // `main` ends with status 0 then
        let gone = error(io::ErrorKind::BrokenPipe);
        assert_eq!(gone.downcast_ref::<io::Error>().map(io::Error::kind), Some(io::ErrorKind::BrokenPipe));
    }
}

#[test]
fn the_innermost_level_decides() {
    let report = report_of(
        "request_cpu_zone $server_name zone=a:1m; request_cpu_zone $server_name zone=b:1m; request_cpu zone=a;
        server { server_name one; request_cpu zone=a; request_cpu zone=b;
            location / { location /x { request_cpu off; location /x/y { } } } location /z { request_cpu zone=b; } }
        server { server_name two; request_cpu off; location / { request_cpu zone=a; } }
        server { server_name three; location / { if ($arg_x) { return 200; } } }",
    );
    let shown: Vec<String> = { report.servers.iter() }
        .map(|server| {
            let locations = server.locations.iter();
            let locations = locations.map(|location| format!(" {} {}", location.location, location.counted));
            format!("{} {}{}", server.names.join(" "), server.counted, locations.collect::<String>())
        })
        .collect();
    assert_eq!(
        shown,
        [
            "one counted in a, b / counted in a, b /x not counted: request_cpu off in n:4 /x/y not counted: \
             request_cpu off in n:4 /z counted in b",
            "two not counted: request_cpu off in n:5 / counted in a",
            "three counted in a / counted in a",
        ]
    );
    assert_eq!(report.zones.iter().map(|zone| zone.servers).collect::<Vec<_>>(), [3, 1]);
}

#[test]
fn the_text_names_what_differs() {
    let report = report_of(
        "request_cpu_zone $server_name zone=d:8m state=/s; request_cpu zone=d; request_cpu_log /l zone=d;
        server { listen 80; server_name a.test b.test; location / { } location /x { request_cpu off; } }
        server { listen 127.0.0.1:81; server_name s; location = /cpu { request_cpu_status; } }
        } stream { server { listen 1; }",
    );
    let mut text = Vec::new();
    text::write(&mut text, &report).unwrap();
    let expected = "n, 1 file
module modules/ngx_http_request_cpu_module.so (n:1)

zone d (n:2)
  key $server_name
  size 8m, about 5,111 accounts
  state /s
  traffic log /l
  counts requests of 1 server

server a.test b.test (n:3)
  listens on 0.0.0.0:80
  counted in d
  location /x (n:3): not counted: request_cpu off in n:3

server s (n:4)
  listens on 127.0.0.1:81
  counted in d
  location = /cpu (n:4): shows the status, counted in d

stream (n:5)
  not measured: the module measures HTTP only

0 warnings, 0 notes
";
    assert_eq!(String::from_utf8(text).unwrap(), expected);
}

proptest! {
    #[test]
    fn no_configuration_makes_it_panic(words in prop::collection::vec(prop::sample::select(vec![
        "http {", "server {", "location", "/ {", "= /x {", "}", ";", "request_cpu", "zone=a", "zone=",
        "off;", "$host", "request_cpu_zone", "zone=a:1m;", "zone=a:99999999999999999999m",
        "request_cpu_status;", "listen", "[::", "unix:", "80;", "server_name", "*.a;", "~^a$;", "map", "$a",
        "$b", "{", "default $b;", "allow", "deny", "all;", "request_cpu_log", "request_cpu_limit",
        "log_format", "'$request_cpu_ns'", "access_log", "aio threads;", "\u{202e}", "load_module",
        "x_request_cpu.so;", "stream {", "return", "if ($a) {", "\"${\"", "include",
    ]), 0..60)) {
        let text = words.join(" ");
        let dump = Dump::of(text.as_bytes(), "n");
        if let Ok(directives) = tree::read(&dump) {
            let model = Model::of(&directives);
            let report = Report::of(&dump, &model, rules::find(&model));
            text::write(&mut Vec::new(), &report).unwrap();
            serde_json::to_string(&report).unwrap();
        }
    }
}
