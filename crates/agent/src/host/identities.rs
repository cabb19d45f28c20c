//! The identities of the data center's processes: certified by a control server, kept in files, renewed in time.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use dujiang_identity::{Bundle, KeyRequest, Name, Role};
use dujiang_types::DcId;
use dujiang_types::PlatformId;
use dujiang_types::api::{CertificateRequest, CertificatesReply, CertificatesRequest};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::known::Known;
use super::report::describe;
use super::servers::Server;

/// Between two looks at what is missing or is to be renewed: a process that waits for its first is waited for.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// A control server certifies within milliseconds; another one may answer what this one does not.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// The folder with the identities of a data center.
#[derive(Debug, Clone)]
pub struct IdentityFolder(PathBuf);

impl IdentityFolder {
    /// Of that data center of the platform in `data`.
    pub fn of(data: &Path, dc: &DcId) -> Self {
        Self(data.join("dc").join(dc.as_str()).join("identity"))
    }

    /// Makes it, for its owner alone.
    pub fn make(&self) -> std::io::Result<()> {
        use std::os::unix::fs::DirBuilderExt as _;
        std::fs::create_dir_all(crate::files::parent(&self.0))?;
        match std::fs::DirBuilder::new().mode(0o700).create(&self.0) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(error),
            _ => Ok(()),
        }
    }

    /// The file of an identity of this data center.
    pub fn file(&self, name: &Name) -> PathBuf {
        let file = match name.within_role() {
            Some(within) => format!("{}-{within}.pem", name.role()),
            None => format!("{}.pem", name.role()),
        };
        self.0.join(file)
    }
}

/// Keeps them.
#[derive(Debug)]
pub(super) struct Identities {
    pub(super) folder: IdentityFolder,
    pub(super) dc: DcId,
    pub(super) platform: PlatformId,
    /// True if a member of the store runs here.
    pub(super) member: bool,
    pub(super) servers: Vec<Arc<Server>>,
    pub(super) client: reqwest::Client,
}

impl Identities {
    /// Gets and renews what the records ask for, for ever. Bumps `news` whenever there is another one.
    pub(super) async fn keep(self, known: watch::Receiver<Known>, news: watch::Sender<u64>) {
        let mut trouble = String::new();
        loop {
            sleep(LOOK_EVERY).await;
            let wanted = self.wanted(&known.borrow());
            let due: Vec<&Name> = wanted.iter().filter(|name| self.is_due(name)).collect();
            if due.is_empty() {
                continue;
            }
            match self.obtain(&due).await {
                Ok(()) => {
                    trouble.clear();
                    news.send_modify(|count| *count += 1);
                }
                // Said once per reason: it is tried four times a second.
                Err(why) if why != trouble => {
                    tracing::warn!(
                        why,
                        "identities cannot be certified; the old ones are used while they hold"
                    );
                    trouble = why;
                }
                Err(_) => {}
            }
        }
    }

    fn wanted(&self, known: &Known) -> BTreeSet<Name> {
        if !known.data_centers.contains_key(&self.dc) {
            return BTreeSet::new();
        }
        let own = |role| Name::in_dc(&self.platform, &self.dc, role);
        let mut wanted = BTreeSet::from([own(Role::Agent), own(Role::Gateway), own(Role::Postgres)]);
        if self.member {
            wanted.insert(own(Role::Store));
        }
        let here = known.applications.iter().filter(|(_, app)| app.spec.data_centers.contains(&self.dc));
        wanted.extend(here.map(|(app, _)| Name::application(&self.platform, &self.dc, app)));
        wanted
    }

    fn is_due(&self, name: &Name) -> bool {
        let renew_at = Bundle::read(&self.folder.file(name)).and_then(|bundle| bundle.renew_at());
        renew_at.map_or(true, |at| at <= SystemTime::now())
    }

    async fn obtain(&self, due: &[&Name]) -> Result<(), String> {
        let keys: Vec<KeyRequest> =
            due.iter().map(|_| KeyRequest::new()).collect::<Result<_, _>>().map_err(|e| e.to_string())?;
        let request = |(name, key): (&&Name, &KeyRequest)| CertificateRequest {
            name: name.to_string(),
            request: key.pem().to_owned(),
        };
        let ask = CertificatesRequest { requests: due.iter().zip(&keys).map(request).collect() };
        let reply = self.ask_servers(&ask).await?;
        if reply.certificates.len() != due.len() {
            return Err("the answer has another number of certificates than was asked for".to_owned());
        }
        for ((name, key), answer) in due.iter().zip(&keys).zip(reply.certificates) {
            let bundle = Bundle::answered(key, answer.certificate, answer.authority);
            let written = bundle.and_then(|bundle| bundle.write(&self.folder.file(name)));
            written.map_err(|error| format!("{name}: {error}"))?;
            tracing::info!(%name, "an identity is renewed");
        }
        Ok(())
    }

    async fn ask_servers(&self, ask: &CertificatesRequest) -> Result<CertificatesReply, String> {
        let mut why = "there is no control server".to_owned();
        for server in &self.servers {
            let asking = async {
                let answer = self.client.post(format!("{}/v1/identities", server.url)).json(ask).send().await;
                let answer = answer.map_err(|error| describe(&error))?;
                let status = answer.status();
                if !status.is_success() {
                    return Err(format!("{status}: {}", answer.text().await.unwrap_or_default()));
                }
                answer.json().await.map_err(|error| describe(&error))
            };
            match timeout(ANSWER_TIMEOUT, asking).await {
                Ok(Ok(reply)) => return Ok(reply),
                Ok(Err(error)) => why = error,
                Err(_) => "no answer".clone_into(&mut why),
            }
        }
        Err(why)
    }
}
