//! The processes: nats-server, the shop, and the nodes that protect it.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use futures_util::future::{join_all, select_all, try_join_all};
use serde::Deserialize;
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;

use super::DemoArgs;
use super::http::{Reply, Shot};
use super::process::Process;
use super::wait::until;

/// Everything that runs. Ended by [`Stage::end`].
#[derive(Debug)]
pub(super) struct Stage {
    /// Where the shop listens.
    pub(super) shop: SocketAddr,
    /// The nodes, in the order of their sites.
    pub(super) nodes: Vec<Node>,
    folder: TempDir,
    nats: Option<Nats>,
    shop_process: Option<Process>,
}

/// One `phalanx up`.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) site: &'static str,
    /// Where visitors connect.
    pub(super) listen: SocketAddr,
    /// A link to the console that logs in once.
    pub(super) console: String,
    pub(super) state: PathBuf,
    admin: SocketAddr,
    token: String,
    process: Process,
}

#[derive(Debug)]
struct Nats {
    binary: PathBuf,
    port: u16,
    process: Process,
}

impl Stage {
    /// An empty stage with a folder for everybody's state.
    pub(super) fn new() -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("phalanx-demo-").tempdir()?;
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        Ok(Self { shop: nowhere, nodes: Vec::new(), folder, nats: None, shop_process: None })
    }

    /// Starts everything and waits until every node has seen every other.
    pub(super) async fn start(&mut self, arguments: &DemoArgs) -> anyhow::Result<()> {
        let binary = arguments.nats_server.clone().unwrap_or_else(|| PathBuf::from("nats-server"));
        self.nats = Some(Nats::start(binary, None, self.folder.path()).await?);
        self.start_shop(arguments.shop.clone()).await?;
        self.write_files()?;
        let sites = SITES.iter().take(usize::from(arguments.nodes));
        self.nodes = try_join_all(sites.map(|site| self.start_node(site, &arguments.rules))).await?;
        let count = self.nodes.len();
        for node in &self.nodes {
            until("all nodes see each other", FLEET_WITHIN, async || {
                let status = node.api("GET", "/api/v1/status").await?.json()?;
                let fleet = status.get("fleet").unwrap_or(&Value::Null);
                let members = fleet.get("members").and_then(Value::as_array).map_or(0, Vec::len);
                let connected = fleet.get("connected").and_then(Value::as_bool) == Some(true);
                if connected && members == count { Ok(Some(())) } else { bail!("{}: {fleet}", node.site) }
            })
            .await?;
        }
        Ok(())
    }

    /// Ends everything, the nodes first, and leaves no file behind.
    pub(super) async fn end(mut self) {
        join_all(self.nodes.iter_mut().map(|node| node.process.end())).await;
        if let Some(shop) = &mut self.shop_process {
            shop.end().await;
        }
        if let Some(nats) = &mut self.nats {
            nats.process.end().await;
        }
        let path = self.folder.path().to_owned();
        if let Err(error) = self.folder.close() {
            eprintln!("{} is left behind: {error}", path.display());
        }
    }

    /// Resolves when any process has ended, which none should.
    pub(super) async fn first_end(&mut self) -> String {
        let nodes = self.nodes.iter_mut().map(|node| &mut node.process);
        let others = self.shop_process.iter_mut().chain(self.nats.iter_mut().map(|nats| &mut nats.process));
        let all = nodes.chain(others).map(|process| Box::pin(process.ended()));
        select_all(all).await.0
    }

    /// Kills nats-server, as a power cut would.
    pub(super) async fn kill_nats(&mut self) {
        if let Some(nats) = &mut self.nats {
            nats.process.kill().await;
        }
    }

    /// Starts nats-server again on its port and store.
    pub(super) async fn start_nats_again(&mut self) -> anyhow::Result<()> {
        if let Some(nats) = self.nats.take() {
            self.nats = Some(Nats::start(nats.binary, Some(nats.port), self.folder.path()).await?);
        }
        Ok(())
    }

    async fn start_shop(&mut self, program: Option<PathBuf>) -> anyhow::Result<()> {
        let program = match program {
            Some(program) => program,
            None => std::env::current_exe()?.with_file_name("phalanx-demo-shop"),
        };
        if !program.is_file() {
            let fix = "build it with `cargo build --package phalanx-demo-shop`, or name it with --shop";
            bail!("the shop's program is not at {}: {fix}", program.display());
        }
        let mut process =
            Process::start("the shop", Command::new(program), self.folder.path().join("shop.log"))?;
        let line = process.first_line().await?;
        self.shop_process = Some(process);
        self.shop = address(line.trim_start_matches("listening on "))?;
        Ok(())
    }

    /// The rule that locks the admin page, and the secret by which the nodes know each other.
    fn write_files(&self) -> anyhow::Result<()> {
        fs::write(self.folder.path().join("admin.conf"), ADMIN_RULE)?;
        let secret: [u8; 16] = phalanx_trust::random_bytes();
        let text: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
        phalanx_trust::private_file::create(&self.folder.path().join("fleet.secret"), text.as_bytes())?;
        Ok(())
    }

    async fn start_node(&self, site: &'static str, rules: &[PathBuf]) -> anyhow::Result<Node> {
        let folder = self.folder.path();
        let nats = self.nats.as_ref().context("nats-server is not started yet")?;
        let name = format!("{site}-1");
        let mut command = Command::new(std::env::current_exe()?);
        command
            .args(["up", "--json", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--workers", "1"])
            .args([
                "--trust-forwarded",
                "127.0.0.1/32",
                "--fleet-id",
                "demo",
                "--site",
                site,
                "--node",
                &name,
            ])
            .arg("--to")
            .arg(format!("http://{}", self.shop))
            .arg("--fleet")
            .arg(format!("nats://127.0.0.1:{}", nats.port))
            .arg("--fleet-secret")
            .arg(folder.join("fleet.secret"))
            .arg("--extra-rules")
            .arg(folder.join("admin.conf"))
            .arg("--state")
            .arg(folder.join(&name))
            .args(rules.iter().flat_map(|folder| [Path::new("--rules"), folder]));
        let mut process = Process::start(&name, command, folder.join(format!("{name}.log")))?;
        let line = process.first_line().await?;
        let ready: Ready = serde_json::from_str(&line).with_context(|| format!("{name} said {line:?}"))?;
        let token = fs::read_to_string(&ready.token_file)
            .with_context(|| format!("{name}'s token {}", ready.token_file.display()))?;
        Ok(Node {
            site,
            listen: address(&ready.listen)?,
            console: ready.console,
            state: ready.state,
            admin: address(&ready.admin)?,
            token: token.trim().to_owned(),
            process,
        })
    }
}

impl Node {
    /// Asks the node's admin API.
    pub(super) async fn api(&self, method: &'static str, path: &str) -> anyhow::Result<Reply> {
        let mut shot = Shot::get(path);
        shot.method = method;
        let shot =
            shot.with("Host", self.admin.to_string()).with("Authorization", format!("Bearer {}", self.token));
        shot.send(self.admin).await
    }
}

impl Nats {
    /// Starts a server with JetStream on a free port, or on the port it had before.
    async fn start(binary: PathBuf, port: Option<u16>, folder: &Path) -> anyhow::Result<Self> {
        let mut command = Command::new(&binary);
        let listen = port.map_or("-1".to_owned(), |port| port.to_string());
        command
            .args(["--addr", "127.0.0.1", "--port", &listen, "--jetstream", "--store_dir"])
            .arg(folder.join("nats"))
            .arg("--ports_file_dir")
            .arg(folder);
        let mut process = Process::start("nats-server", command, folder.join("nats.log")).with_context(
            || "the fleet needs nats-server: `cargo xtask fetch` gets one; name it with --nats-server",
        )?;
        let file = folder.join(format!("nats-server_{}.ports", process.id().unwrap_or_default()));
        let port = tokio::select! {
            port = until("nats-server tells its port", NATS_WITHIN, async || {
                let ports: Ports = serde_json::from_slice(&fs::read(&file)?)?;
                Ok(ports.nats.first().map(|url| address(url)).transpose()?.map(|address| address.port()))
            }) => port?,
            last_words = process.ended() => bail!("{last_words}"),
        };
        Ok(Self { binary, port, process })
    }
}

/// What `phalanx up --json` prints when it is ready.
#[derive(Debug, Deserialize)]
struct Ready {
    listen: String,
    admin: String,
    console: String,
    state: PathBuf,
    token_file: PathBuf,
}

/// What nats-server writes into its ports file.
#[derive(Debug, Deserialize)]
struct Ports {
    #[serde(default)]
    nats: Vec<String>,
}

/// Reads the address out of a URL without a name in it.
fn address(url: &str) -> anyhow::Result<SocketAddr> {
    let text = url.split_once("://").map_or(url, |(_, rest)| rest).trim().trim_end_matches('/');
    text.parse().with_context(|| format!("{url:?} holds no address"))
}

/// Sites of the demonstration, in the order in which they are used.
const SITES: [&str; 9] = ["syd", "fra", "iad", "nrt", "gru", "jnb", "lhr", "sin", "yyz"];

/// Embedded, so that the binary needs no file beside it but the shop.
const ADMIN_RULE: &str = include_str!("../../../../demo/rules/admin.conf");

const NATS_WITHIN: Duration = Duration::from_secs(20);
const FLEET_WITHIN: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_from_urls() {
        for text in ["http://127.0.0.1:81", "nats://127.0.0.1:81", "127.0.0.1:81", "http://127.0.0.1:81/"] {
            assert_eq!(address(text).unwrap().port(), 81, "{text}");
        }
        assert!(address("http://shop.example").is_err());
    }
}
