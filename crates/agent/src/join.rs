//! How a machine that has no identity becomes a data center's agent: it shows a token, once.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use dujiang_identity::{Bundle, Expect, KeyRequest, Name, Role, Token, http_client};
use dujiang_types::api::{Certificate, JoinRequest};
use dujiang_types::{DcId, Problem};
use reqwest::StatusCode;
use tokio::time::{Instant, sleep};

use crate::host::IdentityFolder;

/// How long control servers are asked in turn: one that leads is found well within.
const JOIN_MAX: Duration = Duration::from_secs(60);
/// A control server certifies within milliseconds, after one write of its store.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// Pause after all of them were asked.
const ROUND_PAUSE: Duration = Duration::from_millis(500);

/// Why a machine cannot join.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// Token or answer cannot be used.
    #[error("an identity cannot be used")]
    Identity(#[from] dujiang_identity::Error),
    /// The token is for another data center.
    #[error("the token {token} is not for {wanted}")]
    OtherDataCenter {
        /// The token's name.
        token: Name,
        /// The data center wanted.
        wanted: DcId,
    },
    /// The token's time is over.
    #[error("the token {0} has expired; have another one made with `dujiang token create`")]
    Expired(Name),
    /// There is no HTTP client.
    #[error("cannot make an HTTP client")]
    Client(#[source] reqwest::Error),
    /// A control server has refused.
    #[error("{server} refuses: {problem}")]
    Refused {
        /// Its URL.
        server: String,
        /// Why.
        problem: String,
    },
    /// No control server has decided.
    #[error("no control server has answered within {} s; the last one: {last}", JOIN_MAX.as_secs())]
    Unanswered {
        /// What became of the last attempt.
        last: String,
    },
    /// What was answered is not what was asked for.
    #[error("the answer is the identity of {0}")]
    OtherIdentity(Name),
    /// The answer is of another authority than the token.
    #[error("the answer is of another authority than the token")]
    OtherAuthority,
    /// The folder of identities cannot be made.
    #[error("cannot create the folder of {}", path.display())]
    Folder {
        /// The identity's file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// Where the agent of the token's data center keeps its identity in the platform's folder.
pub fn identity_file(data: &Path, dc: &DcId, token: &Token) -> PathBuf {
    IdentityFolder::of(data, dc).file(&Name::in_dc(token.name().platform(), dc, Role::Agent))
}

/// Has a key that is made here certified as that of the agent of `dc`, and keeps it in `file`. The control servers are
/// tried in turn; they must be of the authority that made the token, and get nothing of the token's secret.
pub async fn join(token: &Token, dc: &DcId, control: &[String], file: &Path) -> Result<(), JoinError> {
    let name = token.name();
    if name.dc() != Some(dc) {
        return Err(JoinError::OtherDataCenter { token: name.clone(), wanted: dc.clone() });
    }
    if token.not_after()? <= SystemTime::now() {
        return Err(JoinError::Expired(name.clone()));
    }
    let client = http_client(&token.identity()?, Expect::roles(&[Role::Control]))?;
    let client = client.timeout(ANSWER_MAX).build().map_err(JoinError::Client)?;
    let key = KeyRequest::new()?;
    let answer = ask(&client, control, &JoinRequest { request: key.pem().to_owned() }).await?;
    if answer.authority != token.authority() {
        return Err(JoinError::OtherAuthority);
    }
    let bundle = Bundle::answered(&key, answer.certificate, answer.authority)?;
    let agent = Name::in_dc(name.platform(), dc, Role::Agent);
    let given = bundle.name()?;
    if given != agent {
        return Err(JoinError::OtherIdentity(given));
    }
    let folder = |source| JoinError::Folder { path: file.to_owned(), source };
    crate::files::make_private_dir(crate::files::parent(file)).map_err(folder)?;
    bundle.write(file)?;
    tracing::info!(token = %name, identity = %agent, "joined");
    Ok(())
}

async fn ask(
    client: &reqwest::Client,
    control: &[String],
    ask: &JoinRequest,
) -> Result<Certificate, JoinError> {
    let deadline = Instant::now() + JOIN_MAX;
    let mut last = "there is no control server".to_owned();
    loop {
        for server in control {
            let server = server.trim_end_matches('/');
            let sent = client.post(format!("{server}/v1/join")).json(ask).send().await;
            let answer = match sent {
                Ok(answer) => answer,
                Err(error) => {
                    last = format!("{server}: {}", crate::host::describe(&error));
                    continue;
                }
            };
            let status = answer.status();
            if status.is_success() {
                match answer.json().await {
                    Ok(certificate) => return Ok(certificate),
                    Err(error) => last = format!("{server}: {}", crate::host::describe(&error)),
                }
                continue;
            }
            let text = answer.text().await.unwrap_or_default();
            let problem = serde_json::from_str(&text).map_or(text, |problem: Problem| problem.to_string());
            // It does not lead, its store does not answer it, or it does not know what became of it: the same request is
            // answered again.
            let undecided = matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT);
            if !undecided {
                return Err(JoinError::Refused { server: server.to_owned(), problem });
            }
            last = format!("{server}: {problem}");
        }
        if Instant::now() + ROUND_PAUSE > deadline {
            return Err(JoinError::Unanswered { last });
        }
        sleep(ROUND_PAUSE).await;
    }
}
