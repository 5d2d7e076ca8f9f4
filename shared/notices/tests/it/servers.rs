//! A mail server and a receiver of webhooks that are not ours, with certificates of their own.

use std::{
    fs,
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use parking_lot::{Condvar, Mutex};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::{Value, json};
use tempfile::TempDir;

/// The longest that a message may take.
const WAIT_LIMIT: Duration = Duration::from_secs(90);

/// An issuer of certificates that no system knows, and a certificate for `localhost`.
pub(crate) struct Certificates {
    dir: TempDir,
}

impl Certificates {
    pub(crate) fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let mut of_issuer = CertificateParams::new(Vec::new()).unwrap();
        of_issuer.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(of_issuer, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let cert = params.signed_by(&key, &*issuer).unwrap();
        fs::write(dir.path().join("ca.pem"), issuer.pem()).unwrap();
        fs::write(dir.path().join("cert.pem"), cert.pem()).unwrap();
        fs::write(dir.path().join("key.pem"), key.serialize_pem()).unwrap();
        Self { dir }
    }

    /// The issuer's certificate.
    pub(crate) fn ca(&self) -> String {
        self.path("ca.pem")
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }
}

/// A server as a process, and what it has received.
pub(crate) struct Server {
    child: Child,
    pub(crate) port: u16,
    said: Arc<(Mutex<Vec<Value>>, Condvar)>,
}

impl Server {
    /// A mail server with a login, which insists on `security`.
    pub(crate) fn mail(certificates: &Certificates, security: &str, more: Value) -> Self {
        let mut how = json!({
            "what": "mail",
            "security": security,
            "cert": certificates.path("cert.pem"),
            "key": certificates.path("key.pem"),
            "user": "backup",
            "password": "correct horse",
        });
        merge(&mut how, more);
        Self::start(&how)
    }

    /// A receiver of webhooks that knows the secret `battery staple`.
    pub(crate) fn webhook(more: Value) -> Self {
        let mut how = json!({ "what": "webhook", "secret": "battery staple" });
        merge(&mut how, more);
        Self::start(&how)
    }

    fn start(how: &Value) -> Self {
        // Debian's own Python, for which Debian has the mail server's package.
        let mut child = Command::new("/usr/bin/python3")
            .args(["-W", "ignore", "-c", include_str!("servers.py")])
            .arg(how.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("/usr/bin/python3 with python3-aiosmtpd: scripts/needs.sh mail installs it");
        let said = Arc::new((Mutex::new(Vec::new()), Condvar::new()));
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let into = Arc::clone(&said);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let value = serde_json::from_str(&line).unwrap_or(Value::String(line));
                into.0.lock().push(value);
                into.1.notify_all();
            }
        });
        let mut server = Self {
            child,
            port: 0,
            said,
        };
        let ready = server.until(|said| said.iter().find_map(|one| one["ready"].as_u64()));
        server.port = ready
            .and_then(|port| port.try_into().ok())
            .expect("the server starts: is python3-aiosmtpd installed (scripts/needs.sh mail)?");
        server
    }

    /// Waits until what was received answers the question; none after a time without an answer.
    fn until<T>(&self, mut ask: impl FnMut(&[Value]) -> Option<T>) -> Option<T> {
        let mut said = self.said.0.lock();
        let mut found = None;
        let is_missing = |said: &mut Vec<Value>| {
            found = ask(said);
            found.is_none()
        };
        self.said
            .1
            .wait_while_for(&mut said, is_missing, WAIT_LIMIT);
        found
    }

    /// The first `count` messages.
    pub(crate) fn received(&self, count: usize) -> Vec<Value> {
        let enough = |said: &[Value]| {
            let all = messages(said);
            (all.len() >= count).then_some(all)
        };
        self.until(enough)
            .unwrap_or_else(|| panic!("not {count} messages, but {:#?}", self.said.0.lock()))
    }

    /// All messages so far.
    pub(crate) fn received_by_now(&self) -> Vec<Value> {
        messages(&self.said.0.lock())
    }

    /// Whether each login so far was good.
    pub(crate) fn logins(&self) -> Vec<bool> {
        let said = self.said.0.lock();
        said.iter()
            .filter_map(|one| one["login"].as_bool())
            .collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn messages(said: &[Value]) -> Vec<Value> {
    let is_message = |one: &&Value| one.get("subject").is_some() || one.get("body").is_some();
    said.iter().filter(is_message).cloned().collect()
}

fn merge(into: &mut Value, more: Value) {
    if let (Value::Object(into), Value::Object(more)) = (into, more) {
        into.extend(more);
    }
}

/// A port on which nobody listens now.
pub(crate) fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    listener.local_addr().unwrap().port()
}
