//! What the compose file runs, run as processes: its commands with its environment, over loopback addresses
//! in place of its network, against a Postgres that asks for the password.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use anyhow::{Context, Result, ensure};
use http_body_util::{BodyExt, Empty};
use hyper::{
    Request, Response, StatusCode,
    body::{Bytes, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tempfile::TempDir;
use tests::{Answer, Background, built, eventually, small_guest};
use tokio::net::TcpListener;
use virtuozo_postgres::server::Cluster;
use vix::lab::{HostSpec, Lab, Product};

const PASSWORD: &str = "s3cret/of the+fleet";

/// The site that the compose file describes.
///
/// Fields drop in this order: processes first, then the guests of the lab, then the database.
struct Fleet {
    processes: Vec<(Container, Background)>,
    lab: Lab,
    _cluster: Cluster,
    compose: Value,
    /// The addresses of services that have one for all.
    hosts: BTreeMap<String, String>,
    dir: TempDir,
}

/// One container of a service, or what stands in its place.
#[derive(Debug, Clone)]
struct Container {
    service: String,
    name: String,
    address: String,
}

/// An address of this test process that no other has.
fn loopback(last: usize) -> String {
    let pid = std::process::id();
    format!("127.{}.{}.{last}", 64 + (pid >> 8) % 64, pid % 256)
}

impl Fleet {
    async fn new() -> Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let file = root.parent().context("no parent")?.join("compose.yaml");
        let compose: Value = serde_saphyr::from_str(&fs::read_to_string(file)?)?;
        let hosts = ["postgres", "jaeger"];
        let hosts = (1..)
            .zip(hosts)
            .map(|(n, host)| (host.to_owned(), loopback(n)))
            .collect::<BTreeMap<_, _>>();

        let dir = tempfile::tempdir()?;
        // The server's user has to enter it too.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o711))?;
        let secrets = dir.path().join("secrets");
        fs::create_dir(&secrets)?;
        fs::write(secrets.join("database-password"), format!("{PASSWORD}\n"))?;
        fs::write(secrets.join("key"), format!("{}\n", "5a".repeat(32)))?;
        fs::set_permissions(secrets.join("key"), fs::Permissions::from_mode(0o600))?;

        let postgres = &compose["services"]["postgres"]["environment"];
        let cluster = database(dir.path(), &hosts["postgres"], postgres).await?;
        let fleet = Self {
            processes: Vec::new(),
            lab: Lab::create(dir.path().join("lab"))?,
            _cluster: cluster,
            compose,
            hosts,
            dir,
        };
        fs::write(fleet.dir.path().join("faults"), "")?;
        Ok(fleet)
    }

    /// `virtuozo` as a container runs it: in its environment and no other, but for the simulated hosts.
    fn command(&self, container: &Container) -> Result<Command> {
        let mut command = Command::new(built("virtuozo")?);
        command
            .env_clear()
            .env("HOME", self.dir.path().join("home"))
            .env("VIRTUOZO_CONFIG", "/dev/null")
            .env("VIRTUOZO_VIX_LIBRARY", built("libvix.so")?)
            .env(vix::lab::ROOT_VARIABLE, self.lab.root())
            .env(vix::lab::FAULTS_VARIABLE, self.dir.path().join("faults"));
        let secrets = self.dir.path().join("secrets").display().to_string();
        let environment = &self.compose["services"][&container.service]["environment"];
        for (name, value) in environment.as_object().context("no environment")? {
            let mut value = value.as_str().context("no text")?.to_owned();
            for (host, address) in &self.hosts {
                for before in ["@", "//"] {
                    let host = format!("{before}{host}:");
                    value = value.replace(&host, &format!("{before}{address}:"));
                }
            }
            value = value
                .replace("/run/secrets", &secrets)
                .replace("0.0.0.0", &container.address);
            command.env(name, value);
        }
        Ok(command)
    }

    /// Starts every container of a service.
    fn start(&mut self, service: &str) -> Result<()> {
        let wanted = &self.compose["services"][service];
        let replicas = wanted["deploy"]["replicas"].as_u64().context("how many")?;
        let words = wanted["command"].as_array().context("which command")?;
        let words: Vec<_> = words.iter().filter_map(Value::as_str).collect();
        let words: Vec<String> = words.into_iter().map(str::to_owned).collect();
        for n in 1..=replicas {
            let container = Container {
                service: service.to_owned(),
                name: format!("{service}-{n}"),
                address: loopback(10 + self.processes.len()),
            };
            let mut command = self.command(&container)?;
            command.args(&words);
            let log = self.dir.path().join(format!("{}.log", container.name));
            let process = Background::start(command, log)?;
            self.processes.push((container, process));
        }
        Ok(())
    }

    /// What `docker compose exec worker virtuozo …` would answer.
    fn exec(&self, args: &[&str], stdin: &str) -> Result<Answer> {
        let mut all = self.processes.iter().map(|(container, _)| container);
        let worker = all.rfind(|one| one.service == "worker");
        let mut command = self.command(worker.context("no worker")?)?;
        command.args(args);
        Answer::of(command, stdin)
    }

    /// The health check of each container.
    fn healthy(&self, ready: bool) -> Result<bool> {
        for (container, _) in &self.processes {
            let test = &self.compose["services"][&container.service]["healthcheck"]["test"];
            let words = test.as_array().context("no health check")?;
            let mut command = self.command(container)?;
            command.args(words.iter().skip(2).filter_map(Value::as_str));
            if ready {
                command.arg("--ready");
            }
            if Answer::of(command, "")?.code != 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

/// A server as the image of Postgres sets it up: with one user, one database, and a password for whoever
/// comes over the network.
async fn database(dir: &Path, address: &str, environment: &Value) -> Result<Cluster> {
    let access = dir.join("access.conf");
    fs::write(
        &access,
        "local all all trust\nhost all all 127.0.0.0/8 scram-sha-256\n",
    )?;
    let place = dir.join("pg");
    let listen = format!("listen_addresses={address}");
    let access = format!("hba_file={}", access.display());
    let cluster =
        tokio::task::spawn_blocking(move || Cluster::start_with(&place, &[&listen, &access]))
            .await??;
    let mut admin = PgConnection::connect(cluster.url()).await?;
    let named = |name: &str| environment[name].as_str().context("not in compose.yaml");
    for statement in [
        format!(
            "ALTER ROLE {} PASSWORD '{PASSWORD}'",
            named("POSTGRES_USER")?
        ),
        format!("CREATE DATABASE {}", named("POSTGRES_DB")?),
    ] {
        sqlx::raw_sql(AssertSqlSafe(statement))
            .execute(&mut admin)
            .await?;
    }
    admin.close().await?;
    Ok(cluster)
}

/// Stands where Jaeger takes traces over HTTP, and notes what is asked of it. It takes nothing else.
async fn jaeger(address: &str) -> Result<Arc<Mutex<Vec<String>>>> {
    let listener = TcpListener::bind((address, 4318)).await?;
    let asked = Arc::<Mutex<Vec<String>>>::default();
    let notes = Arc::clone(&asked);
    let answer = move |request: Request<Incoming>| {
        let path = request.uri().path().to_owned();
        let mut answer = Response::new(Empty::<Bytes>::new());
        if path != "/v1/traces" {
            *answer.status_mut() = StatusCode::NOT_FOUND;
        }
        notes.lock().push(path);
        async {
            // The client may reuse the connection only when it has been read to its end.
            request.into_body().collect().await.map(|_| answer)
        }
    };
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let serving = http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service_fn(answer.clone()));
            tokio::spawn(serving);
        }
    });
    Ok(asked)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_compose_file_runs_backs_up_a_site() -> Result<()> {
    let mut fleet = Fleet::new().await?;
    let asked = jaeger(&fleet.hosts["jaeger"]).await?;
    let spec = HostSpec::new("alpha", Product::WorkstationShared);
    let host = fleet.lab.host(&spec)?;
    for name in ["mail", "web"] {
        small_guest(&host, name)?;
    }
    fleet.start("scheduler")?;
    fleet.start("worker")?;
    eventually("all to be ready", async || {
        Ok(fleet.healthy(true)?.then_some(()))
    })
    .await?;
    ensure!(fleet.healthy(false)?);

    let repository = fleet.path("backup").display().to_string();
    fleet
        .exec(&["settings", "set", "destination", &repository], "")?
        .ok()?;
    let config = host.config_dir.display().to_string();
    let add = ["host", "add", "alpha", "--kind", "workstation_shared"];
    let place = ["--address", &host.url, "--user", &spec.user];
    let rest = ["--config-dir", &config, "--password-stdin"];
    fleet
        .exec(&[&add[..], &place, &rest].concat(), &spec.password)?
        .ok()?;
    let run = fleet.exec(&["run", "now", "--wait", "--json"], "")?.ok()?;
    let points = fleet.exec(&["point", "list", "--json"], "")?.ok()?.json()?;
    let guests: Vec<_> = points.as_array().context("no list")?.iter().collect();
    ensure!(guests.len() == 2, "{points:#}\n{}", run.stdout);
    fleet.exec(&["point", "verify", "--all"], "")?.ok()?;

    let status = fleet.exec(&["status", "--json"], "")?.ok()?.json()?;
    let processes = status["processes"].as_array().context("no processes")?;
    ensure!(processes.len() == 4, "{processes:#?}");

    // The password is asked for, and it is nowhere to be seen.
    let absent = fleet.path("wrong");
    fs::write(&absent, "guessed")?;
    let absent = absent.display().to_string();
    let guessed = ["run", "list", "--database-password-file", &absent];
    ensure!(fleet.exec(&guessed, "")?.code == 3);
    let shown = fleet.exec(&["config", "show"], "")?.ok()?.stdout;
    for (container, process) in &mut fleet.processes {
        process
            .terminate()
            .with_context(|| container.name.clone())?;
        let said = process.said();
        ensure!(!said.contains(PASSWORD) && !shown.contains(PASSWORD));
        ensure!(said.lines().all(|line| line.starts_with('{')), "{said}");
        ensure!(
            !said.contains("cannot be sent") && !said.contains("do not arrive"),
            "{said}"
        );
    }
    let asked = asked.lock();
    let only_traces = asked.iter().all(|path| path == "/v1/traces");
    ensure!(only_traces && !asked.is_empty(), "{asked:?}");
    Ok(())
}
