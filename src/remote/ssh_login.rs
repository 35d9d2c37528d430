//! Who somebody is to a server of ssh: the keys of an agent, then those in files, then a password.

use super::{Client, Fetched, Place, late, small_file, soon, system, wait_for};
use crate::error::{Error, Kind};
use crate::key::{Keys, Secret};
use crate::source::{Again, Failure};
use russh::client::{AuthResult, Handle, KeyboardInteractiveAuthResponse as Asked};
use russh::keys::agent::AgentIdentity;
use russh::keys::agent::client::AgentClient;
use russh::keys::{Algorithm, HashAlg, PrivateKey, PrivateKeyWithHashAlg, PublicKey, decode_secret_key};
use russh::{MethodKind, MethodSet, Signer};
use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::UnixStream;

/// Keys of an agent that are tried: most servers hear of six, and then end it.
const KEYS: usize = 20;

/// After so few refusals no server hangs up.
const FEW: usize = 2;

/// A file that is longer holds no key.
const LARGEST_KEY: u64 = 1 << 20;

/// Questions that are answered before somebody is let in.
const QUESTIONS: usize = 10;

/// How somebody was let in, which is how he is let in again.
#[derive(Clone)]
pub enum Way {
    Nobody,
    Agent(PublicKey),
    Key(Arc<PrivateKey>),
    Password(Secret),
}

/// What a server says to one try.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Said {
    In,
    /// That was right, and something else is wanted, too.
    More,
    No,
}

struct Entering<'a> {
    handle: &'a mut Handle<Client>,
    place: &'a Place,
    patience: Duration,
    /// All of it is done until then, but for what somebody is asked.
    until: Instant,
    keys: &'a dyn Keys,
    /// What the server still takes.
    methods: MethodSet,
    tried: Vec<String>,
    ways: Vec<Way>,
    /// Of keys of RSA, once it was asked for.
    hash: Option<Option<HashAlg>>,
}

/// Has the server let this user in, and takes note of how. Who was let in before is let in the same way, without a question.
pub fn let_in(
    handle: &mut Handle<Client>,
    place: &Place,
    patience: Duration,
    keys: &dyn Keys,
    ways: &mut Vec<Way>,
) -> Fetched<()> {
    let methods = MethodSet::empty();
    let (tried, known) = (Vec::new(), std::mem::take(ways));
    let mut entering = Entering {
        handle,
        place,
        patience,
        until: Instant::now() + patience,
        keys,
        methods,
        tried,
        ways: Vec::new(),
        hash: None,
    };
    let entered = entering.enter(&known);
    let now = std::mem::take(&mut entering.ways);
    match entered {
        Ok(Said::In) => {
            *ways = now;
            Ok(())
        }
        // Some servers hang up on who was refused too often; else it is the line.
        Ok(_) if entering.handle.is_closed() && entering.tried.len() < FEW => {
            *ways = known;
            Err(soon(Kind::Unreachable, "the connection was cut before the server let anybody in"))
        }
        Ok(_) => {
            *ways = known;
            Err(entering.refused())
        }
        Err(failure) => {
            *ways = known;
            Err(failure)
        }
    }
}

impl Entering<'_> {
    fn enter(&mut self, known: &[Way]) -> Fetched<Said> {
        if self.try_way(Way::Nobody, "")? == Said::In {
            return Ok(Said::In);
        }
        for way in known {
            if !matches!(way, Way::Nobody) && self.try_way(way.clone(), "what let this user in before")? == Said::In {
                return Ok(Said::In);
            }
        }
        let takes = |entering: &Self, kind| entering.methods.contains(&kind);
        if takes(self, MethodKind::PublicKey) && self.by_keys()? == Said::In {
            return Ok(Said::In);
        }
        if takes(self, MethodKind::Password) || takes(self, MethodKind::KeyboardInteractive) {
            return self.by_password();
        }
        Ok(Said::No)
    }

    fn refused(&self) -> Failure {
        let tried =
            if self.tried.is_empty() { "nothing, for there is no key".to_owned() } else { self.tried.join(", ") };
        let takes: Vec<&str> = self.methods.iter().map(<&str>::from).collect();
        let takes = if takes.is_empty() { "no more tries".to_owned() } else { takes.join(", ") };
        let what = format!("the server does not let {:?} in; tried: {tried}; it takes {takes}", self.place.user);
        let hint = "a key in ~/.ssh or in the agent of $SSH_AUTH_SOCK; sftp://USER@HOST/…, which asks for the password; or a \
                    line in ~/.netrc";
        Failure { error: Error::new(Kind::NotLetIn, what).hint(hint), again: Again::Never }
    }

    fn left(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }

    /// Somebody was asked, which took its time.
    fn has_asked(&mut self) {
        self.until = Instant::now() + self.patience;
    }

    fn wait<T>(&self, work: impl Future<Output = T>) -> Fetched<T> {
        wait_for(async { tokio::time::timeout(self.left(), work).await }).map_err(system)?.map_err(|_| late())
    }

    fn try_way(&mut self, way: Way, name: &str) -> Fetched<Said> {
        if self.handle.is_closed() {
            return Ok(Said::No);
        }
        let user = self.place.user.clone();
        let result = match &way {
            Way::Nobody => wait(self.left(), self.handle.authenticate_none(user))?,
            Way::Agent(key) => return self.by_agent_key(key),
            Way::Key(key) => {
                let hash = self.hash_for(&key.algorithm())?;
                let key = PrivateKeyWithHashAlg::new(key.clone(), hash);
                wait(self.left(), self.handle.authenticate_publickey(user, key))?
            }
            Way::Password(secret) if self.methods.contains(&MethodKind::Password) => {
                let password = String::from_utf8_lossy(secret.expose()).into_owned();
                wait(self.left(), self.handle.authenticate_password(user, password))?
            }
            Way::Password(secret) => return self.by_questions(secret),
        };
        Ok(self.note(&result, way, name))
    }

    fn note(&mut self, result: &AuthResult, way: Way, name: &str) -> Said {
        let said = match result {
            AuthResult::Success => Said::In,
            AuthResult::Failure { remaining_methods, partial_success } => {
                self.methods = remaining_methods.clone();
                if *partial_success { Said::More } else { Said::No }
            }
        };
        if said != Said::No {
            self.ways.push(way);
        } else if !name.is_empty() {
            self.tried.push(name.to_owned());
        }
        said
    }

    /// Keys of the agent that are named first, then its others, then those in files.
    fn by_keys(&mut self) -> Fetched<Said> {
        let files = self.place.config.identity_files(&self.place.host, &self.place.user);
        let named: Vec<PublicKey> = files.iter().filter_map(|path| public_of(path)).collect();
        let is_named = |key: &PublicKey| named.iter().any(|other| other.key_data() == key.key_data());
        let (mut held, others): (Vec<_>, Vec<_>) = self.held().into_iter().partition(is_named);
        if !self.place.config.is_identities_only() {
            held.extend(others);
        }
        for key in held.iter().take(KEYS) {
            let said = self.by_agent_key(key)?;
            if said != Said::No {
                return Ok(said);
            }
        }
        for path in files {
            let is_tried = public_of(&path).is_some_and(|key| held.iter().any(|k| k.key_data() == key.key_data()));
            let said = if is_tried { Said::No } else { self.by_file(&path)? };
            if said != Said::No {
                return Ok(said);
            }
        }
        Ok(Said::No)
    }

    fn agent(&self) -> Option<AgentClient<UnixStream>> {
        let path = std::env::var_os("SSH_AUTH_SOCK").filter(|path| !path.is_empty())?;
        let connected = self.wait(AgentClient::connect_uds(&path)).ok()?;
        connected.inspect_err(|e| log::debug!("the agent does not answer: {e}")).ok()
    }

    /// The keys of an agent. One that does not answer has none.
    fn held(&self) -> Vec<PublicKey> {
        let Some(mut agent) = self.agent() else { return Vec::new() };
        let Ok(Ok(held)) = self.wait(agent.request_identities()) else { return Vec::new() };
        let plain = |identity| match identity {
            AgentIdentity::PublicKey { key, .. } => Some(key),
            AgentIdentity::Certificate { .. } => None,
        };
        held.into_iter().filter_map(plain).collect()
    }

    fn by_agent_key(&mut self, key: &PublicKey) -> Fetched<Said> {
        let Some(mut agent) = self.agent().filter(|_| !self.handle.is_closed()) else { return Ok(Said::No) };
        let (hash, user) = (self.hash_for(&key.algorithm())?, self.place.user.clone());
        let name = format!("the key {} of the agent", super::fingerprint(key));
        let left = self.left();
        let work = self.handle.authenticate_publickey_with(user, key.clone(), hash, &mut agent);
        let result = wait_for(async { tokio::time::timeout(left, work).await });
        match result.map_err(system)?.map_err(|_| late())? {
            Ok(result) => Ok(self.note(&result, Way::Agent(key.clone()), &name)),
            Err(e) => {
                self.tried.push(format!("{name}, which does not sign ({e})"));
                Ok(Said::No)
            }
        }
    }

    fn by_file(&mut self, path: &Path) -> Fetched<Said> {
        let Some(text) = read(path) else { return Ok(Said::No) };
        let name = path.display().to_string();
        let key = match decode_secret_key(&text, None) {
            Ok(key) if !key.is_encrypted() => key,
            Ok(_) | Err(russh::keys::Error::KeyIsEncrypted) => match self.unlocked(path, &text)? {
                Some(key) => key,
                None => return Ok(Said::No),
            },
            Err(e) => {
                self.tried.push(format!("{name}, which cannot be read ({e})"));
                return Ok(Said::No);
            }
        };
        self.try_way(Way::Key(Arc::new(key)), &name)
    }

    /// A key that a passphrase locks; nobody is asked for that of a key which the server does not want.
    fn unlocked(&mut self, path: &Path, text: &str) -> Fetched<Option<PrivateKey>> {
        if let Some(public) = public_of(path)
            && !self.is_wanted(&public)?
        {
            self.tried.push(path.display().to_string());
            return Ok(None);
        }
        let what = format!("the key {}", path.display());
        let mut wrong = 0;
        while let Some(phrase) = self.keys.next(&what, wrong) {
            self.has_asked();
            if let Ok(phrase) = std::str::from_utf8(phrase.expose())
                && let Ok(key) = decode_secret_key(text, Some(phrase))
            {
                return Ok(Some(key));
            }
            wrong += 1;
        }
        let why = if wrong > 0 { "whose passphrase is another" } else { "which needs its passphrase" };
        self.tried.push(format!("{}, {why}", path.display()));
        Ok(None)
    }

    fn is_wanted(&mut self, key: &PublicKey) -> Fetched<bool> {
        let (hash, user) = (self.hash_for(&key.algorithm())?, self.place.user.clone());
        let mut probe = Probe { is_wanted: false };
        let left = self.left();
        let work = self.handle.authenticate_publickey_with(user, key.clone(), hash, &mut probe);
        let result = wait_for(async { tokio::time::timeout(left, work).await });
        let _ = result.map_err(system)?.map_err(|_| late())?;
        Ok(probe.is_wanted)
    }

    /// What keys of RSA sign with.
    fn hash_for(&mut self, kind: &Algorithm) -> Fetched<Option<HashAlg>> {
        if !matches!(kind, Algorithm::Rsa { .. }) {
            return Ok(None);
        }
        if self.hash.is_none() {
            let known = self.wait(self.handle.best_supported_rsa_hash())?;
            self.hash = Some(known.ok().flatten().unwrap_or(Some(HashAlg::Sha512)));
        }
        Ok(self.hash.flatten())
    }

    fn by_password(&mut self) -> Fetched<Said> {
        let mut wrong = 0;
        if let Some(password) = self.place.password.clone() {
            let said = self.try_way(Way::Password(password), "the password")?;
            if said != Said::No {
                return Ok(said);
            }
            wrong = 1;
        }
        let what = format!("{}, user {:?}", self.place.shown, self.place.user);
        while !self.handle.is_closed() {
            let Some(password) = self.keys.next(&what, wrong) else { break };
            self.has_asked();
            let said = self.try_way(Way::Password(password), "a password")?;
            if said != Said::No {
                return Ok(said);
            }
            wrong += 1;
        }
        Ok(Said::No)
    }

    /// A server that asks questions gets the password where it asks for one thing that is not shown.
    fn by_questions(&mut self, password: &Secret) -> Fetched<Said> {
        let user = self.place.user.clone();
        let left = self.left();
        let start = self.handle.authenticate_keyboard_interactive_start(user, None);
        let mut asked = wait(left, start)?;
        let mut is_told = false;
        for _ in 0..QUESTIONS {
            let prompts = match asked {
                Asked::Success => return Ok(self.note(&AuthResult::Success, Way::Password(password.clone()), "")),
                Asked::Failure { remaining_methods, partial_success } => {
                    let result = AuthResult::Failure { remaining_methods, partial_success };
                    return Ok(self.note(&result, Way::Password(password.clone()), "a password"));
                }
                Asked::InfoRequest { prompts, .. } => prompts,
            };
            let answers = match prompts.as_slice() {
                [] => Vec::new(),
                [one] if !one.echo && !is_told => {
                    is_told = true;
                    vec![String::from_utf8_lossy(password.expose()).into_owned()]
                }
                other => {
                    self.tried.push("a password, but the server asks for more".into());
                    vec![String::new(); other.len()]
                }
            };
            asked = wait(self.left(), self.handle.authenticate_keyboard_interactive_respond(answers))?;
        }
        Ok(Said::No)
    }
}

/// Finds out whether a server wants a key, and signs nothing.
struct Probe {
    is_wanted: bool,
}

impl Signer for Probe {
    type Error = russh::SendError;

    async fn auth_sign(
        &mut self,
        _: &AgentIdentity,
        _: Option<HashAlg>,
        _: Vec<u8>,
    ) -> std::result::Result<Vec<u8>, Self::Error> {
        self.is_wanted = true;
        Err(russh::SendError {})
    }
}

fn wait<T>(patience: Duration, work: impl Future<Output = std::result::Result<T, russh::Error>>) -> Fetched<T> {
    let done = wait_for(async { tokio::time::timeout(patience, work).await }).map_err(system)?.map_err(|_| late())?;
    done.map_err(|e| soon(Kind::Unreachable, format!("the connection broke: {e}")))
}

fn read(path: &Path) -> Option<zeroize::Zeroizing<String>> {
    String::from_utf8(small_file(path, LARGEST_KEY)?.to_vec()).ok().map(zeroize::Zeroizing::new)
}

/// The public key of a file: that beside it, or what it says itself in clear.
fn public_of(path: &Path) -> Option<PublicKey> {
    let beside = path.with_file_name(format!("{}.pub", path.file_name()?.to_str()?));
    let told = |path: &Path| PublicKey::from_openssh(read(path)?.trim()).ok();
    let own = || PrivateKey::from_openssh(read(path)?.as_bytes()).ok().map(|key| key.public_key().clone());
    told(&beside).or_else(|| told(path)).or_else(own)
}
