//! `cpu-report domains --prometheus` and `cpu-report bill --prometheus` with a real Prometheus, whose numbers
//! are known.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

const CPU_REPORT: &str = env!("CARGO_BIN_EXE_cpu-report");

/// 2026-01-31T12:00:00Z
const NOON: u64 = 1_769_860_800;

fn report(url: &str, arguments: &[&str]) -> Output {
    Command::new(CPU_REPORT)
        .args(["domains", "--prometheus", url])
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> &str {
    str::from_utf8(bytes).unwrap()
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// A server with Prometheus' API.
struct Server {
    process: Child,
    address: SocketAddr,
    folder: TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Whether Debian's packages are there.
fn are_installed(commands: &[&str]) -> bool {
    let has = |name: &&str| {
        Command::new(name).arg("--version").output().is_ok_and(|output| output.status.success())
    };
    let all = commands.iter().all(has);
    if !all {
        eprintln!("skipped: needs {}", commands.join(" and "));
    }
    all
}

impl Server {
    /// With the samples of this text, in the format of OpenMetrics.
    fn prometheus(samples: &str) -> Self {
        let folder = TempDir::new().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("samples"), samples).unwrap();
        fs::write(path("config"), "global: {}\n").unwrap();
        let made = Command::new("promtool")
            .args(["tsdb", "create-blocks-from", "openmetrics"])
            .args([path("samples"), path("data")])
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", text(&made.stderr));
        let address = free_address();
        let mut command = Command::new("prometheus");
        command
            .arg(format!("--config.file={}", path("config").display()))
            .arg(format!("--storage.tsdb.path={}", path("data").display()))
            .arg("--storage.tsdb.retention.time=100y")
            .arg(format!("--web.listen-address={address}"));
        Self::start(command, address, folder, "/-/ready")
    }

    /// The same in VictoriaMetrics.
    fn victoria_metrics(samples: &str) -> Self {
        let folder = TempDir::new().unwrap();
        let address = free_address();
        let mut command = Command::new("victoria-metrics");
        command
            .arg(format!("-storageDataPath={}", folder.path().join("data").display()))
            .arg(format!("-httpListenAddr={address}"))
            .arg("-retentionPeriod=100y");
        let server = Self::start(command, address, folder, "/health");
        // its times are milliseconds
        let samples: Vec<String> = samples
            .lines()
            .filter(|line| !line.starts_with('#'))
            .map(|line| format!("{line}000\n"))
            .collect();
        assert!(
            ask(address, "POST", "/api/v1/import/prometheus", &samples.concat())
                .is_some_and(|answer| is_success(&answer))
        );
        server.wait(|| {
            let _ = ask(address, "GET", "/internal/force_flush", "");
            ask(
                address,
                "GET",
                &format!("/api/v1/query?query=nginx_request_cpu_zone_accounts&time={NOON}"),
                "",
            )
            .is_some_and(|answer| answer.contains("edge-1"))
        });
        server
    }

    fn start(mut command: Command, address: SocketAddr, folder: TempDir, health: &str) -> Self {
        let log = fs::File::create(folder.path().join("log")).unwrap();
        let process = command.stdout(Stdio::null()).stderr(log).spawn().unwrap();
        let server = Self { process, address, folder };
        server.wait(|| ask(address, "GET", health, "").is_some_and(|answer| is_success(&answer)));
        server
    }

    fn wait(&self, is_done: impl Fn() -> bool) {
        let begin = Instant::now();
        while !is_done() {
            let log = || fs::read_to_string(self.folder.path().join("log")).unwrap();
            assert!(begin.elapsed() < Duration::from_secs(60), "{}", log());
            thread::sleep(Duration::from_millis(100));
        }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

/// An answer with its head.
fn ask(address: SocketAddr, method: &str, path: &str, body: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\nConnection: \
         close\r\n\r\n{body}"
    )
    .ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

fn is_success(answer: &str) -> bool {
    answer.starts_with("HTTP/1.1 2")
}

/// Two servers that are scraped once a minute from 11:50 to 13:10.
fn samples() -> String {
    let minutes =
        || (-10i64..=70).map(|minute| (NOON.checked_add_signed(minute * 60).unwrap(), minute as f64 * 60.0));
    let mut families = String::new();
    let mut family = |name: &str, kind: &str, samples: &dyn Fn(&mut String, u64, f64)| {
        writeln!(families, "# TYPE {name} {kind}").unwrap();
        for (time, second) in minutes() {
            samples(&mut families, time, second);
        }
    };
    // half a core; from 12:20 to 12:25 it is two
    let first = |second: f64| 1000.0 + 0.5 * second + 1.5 * (second - 1200.0).clamp(0.0, 300.0);
    // it is scraped from 12:30 on, when it has a past; it begins anew at 12:46
    let second_from = |second: f64| second >= 1800.0;
    let second =
        |second: f64| if second < 2760.0 { 100_000.0 + 0.1 * second } else { 0.1 * (second - 2760.0) };
    const A: &str = r#"job="nginx",zone="domains",key="a.example""#;
    const B: &str = r#"job="nginx",zone="domains",key="b.example""#;
    family("nginx_request_cpu_seconds", "counter", &|out, time, at| {
        writeln!(out, "nginx_request_cpu_seconds_total{{instance=\"edge-1:80\",{A}}} {} {time}", first(at))
            .unwrap();
        // a domain that is new at 12:07
        if at >= 420.0 {
            writeln!(
                out,
                "nginx_request_cpu_seconds_total{{instance=\"edge-1:80\",{B}}} {} {time}",
                3.0 + (at - 420.0) / 90.0
            )
            .unwrap();
        }
        if second_from(at) {
            writeln!(
                out,
                "nginx_request_cpu_seconds_total{{instance=\"edge-2:80\",{A}}} {} {time}",
                second(at)
            )
            .unwrap();
        }
    });
    family("nginx_request_cpu_sent_bytes", "counter", &|out, time, at| {
        writeln!(
            out,
            "nginx_request_cpu_sent_bytes_total{{instance=\"edge-1:80\",{A}}} {} {time}",
            5e6 * (at + 600.0)
        )
        .unwrap();
    });
    family("nginx_request_cpu_requests", "counter", &|out, time, at| {
        let requests = "nginx_request_cpu_requests_total{instance=\"edge-1:80\",";
        writeln!(out, "{requests}{A},class=\"2xx\"}} {} {time}", 2.0 * (at + 600.0)).unwrap();
        // the first of them is at 12:31
        if at >= 1860.0 {
            writeln!(out, "{requests}{A},class=\"5xx\"}} {} {time}", at / 60.0 - 30.0).unwrap();
        }
    });
    family("nginx_request_cpu_limit_refused_requests", "counter", &|out, time, at| {
        let refused = "nginx_request_cpu_limit_refused_requests_total{instance=\"edge-1:80\",";
        if at >= 1860.0 {
            writeln!(out, "{refused}{A},dry_run=\"no\"}} {} {time}", at / 30.0 - 60.0).unwrap();
            writeln!(out, "{refused}{A},dry_run=\"yes\"}} {at} {time}").unwrap();
        }
    });
    family("nginx_request_cpu_zone_accounts", "gauge", &|out, time, at| {
        writeln!(
            out,
            "nginx_request_cpu_zone_accounts{{instance=\"edge-1:80\",job=\"nginx\",zone=\"domains\"}} 2 \
             {time}"
        )
        .unwrap();
        if second_from(at) {
            writeln!(
                out,
                "nginx_request_cpu_zone_accounts{{instance=\"edge-2:80\",job=\"nginx\",zone=\"domains\"}} 1 \
                 {time}"
            )
            .unwrap();
        }
    });
    families + "# EOF\n"
}

const HOUR: [&str; 6] = ["--from", "2026-01-31T12:00:00Z", "--to", "2026-01-31T13:00:00Z", "--format", "csv"];

#[test]
fn the_fleet_is_the_sum_of_the_growth_of_counters() {
    if are_installed(&["prometheus", "promtool"]) {
        sums_are_right(&Server::prometheus(&samples()).url());
    }
}

#[test]
fn victoria_metrics_tells_the_same() {
    if are_installed(&["victoria-metrics"]) {
        sums_are_right(&Server::victoria_metrics(&samples()).url());
    }
}

fn sums_are_right(url: &str) {
    let run = |more: &[&str]| {
        let output = report(url, &[&HOUR, more].concat());
        assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), ""));
        text(&output.stdout).to_owned()
    };

    // edge-1: 3600 s of half a core, and 450 s more. edge-2: 900 s of a tenth from 12:30 to 12:45, which is
    // the last that is known of it, then 840 s from 12:46 on. Its past is not counted.
    // The slot from 12:20 is the highest of twelve, and the 95 % of twelve are twelve.
    // b.example: 3 s that it had when it was seen first, and 3180 / 90 s.
    let rows: Vec<Vec<String>> = csv::Reader::from_reader(run(&[]).as_bytes())
        .records()
        .map(|row| row.unwrap().iter().map(str::to_owned).collect())
        .collect();
    let wanted: [(&str, &str, [f64; 5], [f64; 3]); 3] = [
        ("domain", "a.example", [7230.0, 18.0, 2424.0, 2424.0 / 3600.0, 2.0], [0.0, 30.0, 60.0]),
        (
            "domain",
            "b.example",
            [0.0, 0.0, 3.0 + 3180.0 / 90.0, (3.0 + 3180.0 / 90.0) / 3600.0, (3.0 + 180.0 / 90.0) / 300.0],
            [0.0; 3],
        ),
        (
            "all",
            "",
            [
                7230.0,
                18.0,
                2427.0 + 3180.0 / 90.0,
                (2427.0 + 3180.0 / 90.0) / 3600.0,
                2.0 + 300.0 / 90.0 / 300.0,
            ],
            [0.0, 30.0, 60.0],
        ),
    ];
    assert_eq!(rows.len(), wanted.len());
    for (row, (kind, domain, figures, errors)) in rows.iter().zip(wanted) {
        assert_eq!((row[1].as_str(), row[2].as_str()), (kind, domain));
        let found: Vec<f64> =
            row[3..8].iter().chain(&row[12..15]).map(|field| field.parse().unwrap()).collect();
        for (found, wanted) in found.iter().zip(figures.iter().chain(&errors)) {
            assert!((found - wanted).abs() < 1e-6, "{domain}: {found}, and not {wanted}: {row:?}");
        }
    }

    // the slots add up to the whole
    let by_slots = run(&["--by", "5m", "--domain", "A.*", "--seconds"]);
    let slots: Vec<csv::StringRecord> =
        csv::Reader::from_reader(by_slots.as_bytes()).records().map(Result::unwrap).collect();
    let cpu: Vec<f64> =
        slots.iter().filter(|row| &row[1] == "domain").map(|row| row[6].parse().unwrap()).collect();
    assert_eq!(cpu.len(), 12);
    assert!((cpu.iter().sum::<f64>() - 2424.0).abs() < 1e-6, "{cpu:?}");
    assert!((cpu[9] - 174.0).abs() < 1e-6, "edge-2 begins anew in the tenth: {cpu:?}");

    assert!(!run(&["--domain", "a.example"]).contains("b.example"));
    assert!(run(&["--domain", "[ab].example"]).contains("b.example"));
    let output = report(url, &[&HOUR[..], &["--host", "edge-2:*"]].concat());
    assert_eq!(output.status.code(), Some(0));
    let said = text(&output.stderr);
    assert!(said.contains("there are no data for the time before 2026-01-31T12:30:00Z"), "{said}");
    let second = text(&output.stdout);
    assert!(
        second.lines().nth(1).is_some_and(|row| row.starts_with("domains,domain,a.example,0,0,174,")),
        "{second}"
    );
}

#[test]
fn a_bill_is_of_the_growth_of_counters() {
    if !are_installed(&["prometheus", "promtool"]) {
        return;
    }
    let prometheus = Server::prometheus(&samples());
    let url = prometheus.url();
    let folder = TempDir::new().unwrap();
    let bill = |items: &str, more: &[&str]| {
        let plan = folder.path().join("plan.toml");
        fs::write(&plan, format!("name = \"p\"\ncurrency = \"EUR\"\nitem = [{items}]")).unwrap();
        Command::new(CPU_REPORT)
            .args(["bill", "--prometheus", &url, "--plan"])
            .arg(plan)
            .args(HOUR)
            .args(more)
            .stdin(Stdio::null())
            .output()
            .unwrap()
    };
    let amounts = |items: &str, more: &[&str]| -> Vec<String> {
        let output = bill(items, more);
        assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), ""));
        let mut reader = csv::Reader::from_reader(text(&output.stdout).as_bytes());
        let rows: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
        let of = |row: &csv::StringRecord| format!("{} {}", &row[3], &row[11]);
        rows.iter().filter(|row| &row[2] == "item").map(of).collect()
    };
    // as above: 2424 s, and 3 + 3180 / 90 s = 38.333333333 s
    let cpu = "{ name = \"c\", measure = \"cpu\", rate = 1 }";
    assert_eq!(amounts(cpu, &[]), ["a.example 2424.00", "b.example 38.33"]);
    let all = "{ name = \"c\", measure = \"cpu\", rate = 1 }, { name = \"r\", measure = \"requests\", rate \
               = 1 },
        { name = \"s\", measure = \"sent\", rate = 1 }, { name = \"p\", measure = \"percentile_cores\", rate \
               = 1 },
        { name = \"t\", measure = \"percentile_cores\", rate = 1, rule = \"discard-up\" }";
    // half a core for an hour and 450 s more; the highest of twelve slots is of 2 cores, the next of half a
    // core
    let wanted = ["2250.00", "7230.00", "18.00", "2.00", "0.50"].map(|amount| format!("a.example {amount}"));
    assert_eq!(amounts(all, &["--domain", "a.example", "--host", "edge-1:*"]), wanted);

    // a domain without requests has no counter of them
    let requests = "{ name = \"r\", measure = \"requests\", rate = 1 }";
    assert_eq!(amounts(requests, &[]), ["a.example 7230.00", "b.example 0.00"]);

    // so that it had none, and pays no fee
    let output = bill(&format!("{requests}]\nbase_fee = 5 #"), &[]);
    let out = text(&output.stdout);
    assert_eq!(out.lines().filter(|row| row.contains(",base_fee,")).count(), 1, "{out}");
    assert!(out.lines().any(|row| row.contains(",base_fee,a.example,")), "{out}");

    // of edge-2 nothing but CPU is known
    let sent = "{ name = \"s\", measure = \"sent\", rate = 1 }";
    let output = bill(sent, &["--domain", "a.example"]);
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(1), ""));
    assert!(
        text(&output.stderr).contains("instance edge-2:80 has no counter of \"sent_bytes\""),
        "{}",
        text(&output.stderr)
    );
    let output = bill(sent, &["--domain", "a.example", "--missing", "zero"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(text(&output.stdout).contains(",18.00,"), "{}", text(&output.stdout));

    let output = bill("{ name = \"Peak\", measure = \"peak_cores\", rate = 1 }", &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stderr).contains("the item \"Peak\" of the plan \"p\" is not in Prometheus"),
        "{}",
        text(&output.stderr)
    );
}

#[test]
fn what_is_not_known_is_said() {
    if !are_installed(&["prometheus", "promtool"]) {
        return;
    }
    let prometheus = Server::prometheus(&samples());
    let url = prometheus.url();
    let output = report(&url, &[&HOUR[..], &["--zone", "nothing"]].concat());
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(2), ""));
    let said = text(&output.stderr);
    assert!(said.contains("no zone matches --zone \"nothing\": there is \"domains\""), "{said}");
    let output = report(&url, &[&HOUR[..], &["--host", "nothing"]].concat());
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(2), ""));
    assert!(text(&output.stderr).contains("\"edge-1:80\", \"edge-2:80\""), "{}", text(&output.stderr));
    let output = report(&url, &[&HOUR[..], &["--domain", "nothing"]].concat());
    assert_eq!(output.status.code(), Some(0));
    let said = text(&output.stderr);
    assert!(said.contains("no domain matches --domain \"nothing\""), "{said}");
    assert!(said.contains("Prometheus has no counters"), "{said}");

    // borders are those of slots, and what is not known is said
    let output =
        report(&url, &["--from", "2026-01-31T11:01:00Z", "--to", "2026-01-31T11:59:59Z", "--format", "csv"]);
    let said = text(&output.stderr);
    assert!(said.contains("--from is rounded to 2026-01-31T11:00:00Z"), "{said}");
    assert!(said.contains("--to is rounded to 2026-01-31T12:00:00Z"), "{said}");
    assert!(said.contains("there are no data for the time before 2026-01-31T11:50:00Z"), "{said}");

    // an error of the API's own
    let output = report(&format!("{}/nothing-here", url), &HOUR);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("404 Not Found"), "{}", text(&output.stderr));
}

#[test]
fn a_server_that_is_not_there_is_named_without_its_password() {
    let output = report(&format!("http://me:secret@{}/", free_address()), &[]);
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(1), ""));
    let said = text(&output.stderr);
    assert!(said.contains("127.0.0.1") && said.contains("refused") && !said.contains("secret"), "{said}");
}

/// Answers one request with this, and returns what it was.
fn answer_once(status: &str, body: &str) -> (String, thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://me:se%40cret@{}", listener.local_addr().unwrap());
    let answer =
        format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
    let asked = thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut reader = BufReader::new(stream);
        let (mut head, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            head.push_str(&line);
            if line.trim().is_empty() {
                break;
            }
        }
        let mut form = vec![0; length];
        reader.read_exact(&mut form).unwrap();
        reader.get_mut().write_all(answer.as_bytes()).unwrap();
        head + text(&form)
    });
    (url, asked)
}

#[test]
fn errors_of_the_api_are_shown_and_headers_are_sent() {
    let body = r#"{"status":"error","errorType":"bad_data","error":"it is too large"}"#;
    let (url, asked) = answer_once("422 Unprocessable Entity", body);
    let output = report(&url, &["--header", "X-Scope-OrgID: tenant"]);
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    assert!(said.contains("422") && said.contains("it is too large (bad_data)"), "{said}");
    let asked = asked.join().unwrap().to_ascii_lowercase();
    assert!(asked.starts_with("post /api/v1/query_range "), "{asked}");
    assert!(asked.contains("x-scope-orgid: tenant"), "{asked}");
    // me:se@cret
    assert!(asked.contains("authorization: basic bwu6c2vay3jlda=="), "{asked}");
    assert!(asked.contains("query=nginx_request_cpu_zone_accounts"), "{asked}");

    let (url, asked) = answer_once("200 OK", "<html>a page</html>");
    let output = report(&url, &[]);
    asked.join().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("not from Prometheus"), "{}", text(&output.stderr));
}

#[test]
fn wrong_arguments_end_with_2() {
    for url in ["foo", "http://", "ftp://host"] {
        let output = report(url, &[]);
        assert_eq!(output.status.code(), Some(2), "{url}");
        assert!(text(&output.stderr).contains("expected an address"), "{}", text(&output.stderr));
    }
    for arguments in
        [&["--header", "foo"][..], &["--match", "job"], &["--match", "class=2xx"], &["--duplicates", "once"]]
    {
        assert_eq!(report("http://127.0.0.1:1", arguments).status.code(), Some(2), "{arguments:?}");
    }
    for arguments in [&["log"][..], &["--from", "2026-02-01", "--to", "2026-01-01"]] {
        assert_eq!(report("http://127.0.0.1:1", arguments).status.code(), Some(2), "{arguments:?}");
    }
}

/// The same server, scraped once for each of these labels, in the minutes from 12:00 on that they have.
fn scraped(targets: &[(&str, std::ops::RangeInclusive<u64>)]) -> Server {
    let mut samples = String::new();
    for (name, kind) in [
        ("nginx_request_cpu_seconds", "counter"),
        ("nginx_request_cpu_requests", "counter"),
        ("nginx_request_cpu_zone_accounts", "gauge"),
    ] {
        writeln!(samples, "# TYPE {name} {kind}").unwrap();
        for (labels, minutes) in targets {
            for minute in minutes.clone() {
                let time = NOON + minute * 60;
                let labels = format!("instance=\"e1\",zone=\"z\",{labels}");
                match kind {
                    "gauge" => writeln!(samples, "{name}{{{labels}}} 1 {time}").unwrap(),
                    _ if name.ends_with("seconds") => {
                        writeln!(samples, "{name}_total{{key=\"a\",{labels}}} {minute} {time}").unwrap()
                    }
                    _ => {
                        writeln!(samples, "{name}_total{{key=\"a\",class=\"2xx\",{labels}}} {minute} {time}")
                            .unwrap()
                    }
                }
            }
        }
    }
    Server::prometheus(&(samples + "# EOF\n"))
}

#[test]
fn a_server_that_is_scraped_twice_is_not_billed_twice() {
    if !are_installed(&["prometheus", "promtool"]) {
        return;
    }
    let server = scraped(&[("job=\"low\"", 0..=60), ("job=\"full\"", 0..=60)]);
    let folder = TempDir::new().unwrap();
    let plan = folder.path().join("plan.toml");
    fs::write(
        &plan,
        "name = \"p\"\ncurrency = \"EUR\"\nitem = [{ name = \"c\", measure = \"cpu\", rate = 1 }]",
    )
    .unwrap();
    let bill = |more: &[&str]| {
        let mut command = Command::new(CPU_REPORT);
        command.args(["bill", "--prometheus", &server.url(), "--plan"]).arg(&plan).args(HOUR).args(more);
        command.output().unwrap()
    };
    let output = bill(&[]);
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(1), ""));
    let said = text(&output.stderr);
    assert!(
        said.contains("{job=\"full\"} and {job=\"low\"}") && said.contains("--match 'job=full'"),
        "{said}"
    );
    for (more, amount) in [
        (["--match", "job=low"], ",60.00"),
        (["--match", "job!~low"], ",60.00"),
        (["--duplicates", "count"], ",120.00"),
    ] {
        let output = bill(&more);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        assert!(text(&output.stdout).contains(amount), "{}", text(&output.stdout));
    }
    let output = report(&server.url(), &HOUR);
    assert!(text(&output.stdout).contains("z,domain,a,120,"), "{}", text(&output.stdout));
    assert_eq!(text(&output.stderr).lines().count(), 1, "{}", text(&output.stderr));
    let output = report(&server.url(), &[&HOUR[..], &["--match", "job=\"low\""]].concat());
    assert!(text(&output.stdout).contains("z,domain,a,60,"), "{}", text(&output.stdout));
    assert_eq!(text(&output.stderr), "");
}

#[test]
fn a_label_that_has_changed_makes_no_second_server() {
    if !are_installed(&["prometheus", "promtool"]) {
        return;
    }
    let server = scraped(&[("replica=\"a\"", 0..=30), ("replica=\"b\"", 31..=60)]);
    let output = report(&server.url(), &[&HOUR[..], &["--duplicates", "error"]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
}

#[test]
fn growth_in_a_time_without_scrapes_is_spread_over_it() {
    // from 12:10 to 12:50 nothing was scraped
    let server = scraped(&[("job=\"a\"", 0..=10), ("job=\"a\"", 50..=60)]);
    let output = report(
        &server.url(),
        &[&HOUR[..], &["--by", "5m", "--columns", "row,domain,time,cpu_seconds"]].concat(),
    );
    let rows: Vec<&str> = text(&output.stdout).lines().filter(|row| row.starts_with("domain,a,")).collect();
    // Prometheus holds a point for five minutes
    assert_eq!(rows.len(), 11, "{rows:?}");
    let said = text(&output.stderr);
    assert!(said.contains("instance e1 was not scraped from") && said.lines().count() == 1, "{said}");
    let seconds: f64 = rows.iter().map(|row| row.rsplit(',').next().unwrap().parse::<f64>().unwrap()).sum();
    assert!((seconds - 60.0).abs() < 1e-6, "{seconds}");
}

#[test]
fn a_counter_goes_on_where_another_label_has_changed() {
    // from 12:10 to 12:30 nothing was scraped, and then by another job
    for (targets, gaps) in [
        ([("job=\"a\"", 0..=30), ("job=\"b\"", 31..=60)], 0),
        ([("job=\"a\"", 0..=10), ("job=\"b\"", 30..=60)], 1),
    ] {
        let server = scraped(&targets);
        let output = report(&server.url(), &[&HOUR[..], &["--columns", "row,domain,cpu_seconds"]].concat());
        let rows = text(&output.stdout);
        assert!(rows.contains("\ndomain,a,60\n"), "{rows}");
        let said = text(&output.stderr);
        assert_eq!(said.matches("was not scraped from").count(), gaps, "{said}");
    }
}
