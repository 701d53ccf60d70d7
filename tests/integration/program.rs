//! The built program: its command line, its signals, and three of it as a cluster.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use volary::access::ClientTlsConfig;
use volary::flight::client::Client;

/// What the product promises for joins, leaves and deaths.
const PROMISED: Duration = Duration::from_secs(5);
/// From the start of the process to the answer of its first request.
const START_PROMISED: Duration = Duration::from_secs(1);

fn volary(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_volary"));
    command.args(arguments);
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("VOLARY_")) {
        command.env_remove(name);
    }
    command.output().expect("it runs")
}

struct Server {
    process: Child,
    grpc: String,
}

impl Server {
    fn start(name: &str, store: &std::path::Path, join: Option<&Server>) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_volary"));
        command
            .args(["serve", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"])
            .args(["--name", name, "--log-level", "warn", "--store"])
            .arg(store)
            .stdout(Stdio::piped());
        if let Some(seed) = join {
            command.args(["--join", &seed.grpc]);
        }
        let mut process = command.spawn().expect("it starts");
        let mut line = String::new();
        BufReader::new(process.stdout.take().expect("its output"))
            .read_line(&mut line)
            .expect("a line");
        let grpc = line
            .split(' ')
            .find_map(|word| word.strip_prefix("grpc="))
            .unwrap_or_else(|| panic!("{line:?} names no port"))
            .to_owned();
        Self { process, grpc }
    }

    fn url(&self) -> String {
        format!("grpc://{}", self.grpc)
    }

    fn signal(&self, signal: libc::c_int) {
        let id = libc::pid_t::try_from(self.process.id()).expect("a process id");
        // SAFETY: kill takes plain numbers; the process is our child and has not been waited for.
        assert_eq!(unsafe { libc::kill(id, signal) }, 0);
    }

    /// Asks over and over, as an operator would, until the answer is `wanted`; gives up at the promised time.
    async fn sees(&self, wanted: &[(&str, &str)]) -> Duration {
        let began = Instant::now();
        let mut client = Client::connect(&self.url(), ClientTlsConfig::default())
            .await
            .expect("connected");
        loop {
            let members = client
                .action("ListMembers", &serde_json::json!({}))
                .await
                .expect("members");
            let text =
                |member: &Value, field: &str| member[field].as_str().unwrap_or("").to_owned();
            let seen: Vec<(String, String)> = members
                .iter()
                .map(|member| (text(member, "name"), text(member, "state")))
                .collect();
            if seen
                .iter()
                .map(|(name, state)| (name.as_str(), state.as_str()))
                .eq(wanted.iter().copied())
            {
                return began.elapsed();
            }
            assert!(
                began.elapsed() < PROMISED,
                "after {PROMISED:?} it sees {seen:?}, not {wanted:?}"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn no_arguments_print_help_and_a_wrong_one_is_wrong_usage() {
    let help = volary(&[]);
    assert_eq!(help.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&help.stdout).contains("serve"));
    let version = volary(&["--version"]);
    assert_eq!(
        String::from_utf8_lossy(&version.stdout).trim(),
        concat!("volary ", env!("CARGO_PKG_VERSION"))
    );
    assert_eq!(volary(&["fly"]).status.code(), Some(2));
    let exposed = volary(&["serve", "--listen", "0.0.0.0:0"]);
    assert_eq!(exposed.status.code(), Some(2));
    let text = String::from_utf8_lossy(&exposed.stderr).into_owned();
    assert!(
        text.starts_with("error: --listen is 0.0.0.0:0") && text.contains("--insecure"),
        "{text}"
    );
    let bucket = volary(&["serve", "--listen", "127.0.0.1:0", "--store", "s3://b/x"]);
    assert_eq!(bucket.status.code(), Some(2));
    assert!(bucket.stdout.is_empty());
    let text = String::from_utf8_lossy(&bucket.stderr).into_owned();
    assert!(text.starts_with("error: --store is \"s3://b/x\""), "{text}");
}

#[test]
fn a_client_command_without_a_server_fails_with_a_remedy() {
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("a port")
        .port();
    let output = volary(&["members", "--server", &format!("grpc://127.0.0.1:{port}")]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        text.starts_with("error: no server answers") && text.contains("volary serve"),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_starts_in_a_second_answers_the_commands_and_drains_on_sigterm() {
    let store = tempfile::tempdir().expect("a directory");
    let began = Instant::now();
    let mut server = Server::start("only", store.path(), None);
    server.sees(&[("only", "READY")]).await;
    let took = began.elapsed();
    println!("from start to the first answer: {took:?}");
    assert!(took < START_PROMISED, "it took {took:?}");

    let url = server.url();
    let output = volary(&["members", "--server", &url]);
    let table = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        table.contains("| only ") && table.contains("| ready |"),
        "{table}"
    );
    let output = volary(&["sql", "--server", &url, "--json", "SELECT 1 + 1 AS two"]);
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "{\"two\":2}\n",
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let output = volary(&["sql", "--server", &url, "SELECT zwei FROM nowhere"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).starts_with("error: "));
    for listing in ["datasets", "models", "jobs"] {
        let output = volary(&[listing, "--server", &url]);
        assert_eq!(
            output.status.code(),
            Some(0),
            "{listing}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    server.signal(libc::SIGTERM);
    assert_eq!(server.process.wait().expect("it ends").code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn three_servers_find_each_other_and_miss_one_that_is_killed() {
    let store = tempfile::tempdir().expect("a directory");
    let first = Server::start("a", store.path(), None);
    let second = Server::start("b", store.path(), Some(&first));
    let mut third = Server::start("c", store.path(), Some(&first));
    for server in [&first, &second, &third] {
        let took = server
            .sees(&[("a", "READY"), ("b", "READY"), ("c", "READY")])
            .await;
        println!("all three seen after {took:?}");
    }
    second.signal(libc::SIGKILL);
    let (one, other) = tokio::join!(
        first.sees(&[("a", "READY"), ("b", "DEAD"), ("c", "READY")]),
        third.sees(&[("a", "READY"), ("b", "DEAD"), ("c", "READY")]),
    );
    println!("a kill seen after {one:?} and {other:?}");
    third.signal(libc::SIGINT);
    assert_eq!(third.process.wait().expect("it ends").code(), Some(0));
    first.sees(&[("a", "READY"), ("b", "DEAD")]).await;
}
