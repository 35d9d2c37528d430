//! Identities: the secret keys that open what is sealed for a recipient.
//!
//! A file of them is one of age, as `age-keygen` writes it, or a private key of ssh. All that is in it are tried.

use super::recipient::{bech32_key, is_secret};
use super::{Family, Kek, ssh};
use crate::error::{Error, Kind, Result};
use ed25519_dalek::SigningKey;
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

/// A secret key. It is wiped when it is dropped and never shown.
#[derive(Clone)]
pub struct Identity {
    family: Family,
    secret: StaticSecret,
    public: PublicKey,
}

/// Bytes that a file of identities may have, and how many may be in it.
const MOST: usize = 1 << 20;
const MANY: usize = 1000;

impl Identity {
    /// Length of an identity on its way to another process.
    pub const CARRIED: usize = 33;

    fn new(family: Family, secret: &[u8; 32]) -> Self {
        let secret = StaticSecret::from(*secret);
        let public = PublicKey::from(&secret);
        Self { family, secret, public }
    }

    /// The identity of an ssh key: its scalar, which is half of a hash of the seed, on the curve of X25519.
    fn of_seed(seed: &[u8; 32], public: &[u8; 32]) -> Result<Self> {
        let key = SigningKey::from_bytes(seed);
        if key.verifying_key().as_bytes() != public {
            return Err(usage("the ssh key is damaged: its halves do not belong together"));
        }
        Ok(Self::new(Family::Ssh, &Zeroizing::new(key.to_scalar_bytes())))
    }

    pub fn family(&self) -> Family {
        self.family
    }

    /// The key to a slot with this ephemeral key, were it sealed for this identity. `None` when there is no agreement,
    /// which nobody makes who wants it to be opened.
    pub fn kek(&self, ephemeral: &[u8; 32]) -> Option<Kek> {
        let shared = self.secret.diffie_hellman(&PublicKey::from(*ephemeral));
        let agreed = || Kek::agreed(self.family, shared.as_bytes(), ephemeral, self.public.as_bytes());
        shared.was_contributory().then(agreed)
    }

    /// The bytes that tell it to another process.
    pub fn carry(&self) -> Zeroizing<[u8; Self::CARRIED]> {
        let mut bytes = Zeroizing::new([0; Self::CARRIED]);
        bytes[0] = self.family as u8;
        bytes[1..].copy_from_slice(self.secret.as_bytes());
        bytes
    }

    /// The identity that another process told.
    pub fn carried(bytes: &[u8; Self::CARRIED]) -> Option<Self> {
        let family = [Family::X25519, Family::Ssh].into_iter().find(|family| *family as u8 == bytes[0])?;
        Some(Self::new(family, bytes[1..].try_into().ok()?))
    }
}

/// All identities of a file.
///
/// # Errors
/// `Unsupported` for kinds that cannot be used, `Usage` for what is no identity; nothing secret is repeated.
pub fn parse_identities(bytes: &[u8]) -> Result<Vec<Identity>> {
    refuse_encrypted(bytes)?;
    let text = std::str::from_utf8(bytes).ok().filter(|_| bytes.len() <= MOST);
    let text = text.ok_or_else(|| usage("this is no file of identities").hint(HINT))?;
    if ssh::is_private(text) {
        let (seed, public) = ssh::private_key(text)?;
        return Ok(vec![Identity::of_seed(&seed, &public)?]);
    }
    let lines = text.lines().map(str::trim).zip(1..).filter(|(line, _)| !line.is_empty() && !line.starts_with('#'));
    let parse = |(line, n)| of_line(line).map_err(|e: Error| e.within(format!("line {n}")));
    let found = lines.take(MANY + 1).map(parse).collect::<Result<Vec<_>>>()?;
    match found.len() {
        0 => Err(usage("there is no identity in it").hint(HINT)),
        n if n > MANY => Err(usage(format!("more than {MANY} identities are in it"))),
        _ => Ok(found),
    }
}

const HINT: &str = "an identity is what age-keygen makes, or a private key ssh-ed25519";

/// A file that age has encrypted is nothing that can be asked for: age decrypts it.
fn refuse_encrypted(bytes: &[u8]) -> Result<()> {
    let armoured = b"-----BEGIN AGE ENCRYPTED FILE-----";
    if bytes.starts_with(b"age-encryption.org/") || bytes.trim_ascii_start().starts_with(armoured) {
        return Err(Error::new(Kind::Unsupported, "the file of identities is encrypted by age")
            .hint("age -d FILE | stmount --identity - ..."));
    }
    Ok(())
}

fn of_line(line: &str) -> Result<Identity> {
    if line.starts_with("AGE-SECRET-KEY-1") {
        let key = bech32_key(line, "AGE-SECRET-KEY-").ok_or_else(|| usage("the identity has a mistake in it"))?;
        return Ok(Identity::new(Family::X25519, &key));
    }
    let what = if line.starts_with("AGE-PLUGIN-") {
        "identities of age plugins cannot be used"
    } else if line.starts_with("AGE-SECRET-KEY-PQ-1") {
        "identities AGE-SECRET-KEY-PQ-1… are not known yet"
    } else if line.starts_with("-----BEGIN") {
        "this is a private key of another kind"
    } else if is_secret(line) {
        "this is an identity of another kind"
    } else if line.starts_with("age1") || line.starts_with("ssh-") {
        "this is a recipient, which opens nothing: the identity is its secret half"
    } else {
        "this is no identity"
    };
    Err(Error::new(Kind::Unsupported, what).hint(HINT))
}

fn usage(what: impl Into<String>) -> Error {
    Error::new(Kind::Usage, what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{Master, Recipient};

    const AGE: &str = "AGE-SECRET-KEY-1GPQ5YS6YG4RYWJZFFF95CN2WFAG9Z5JN2324V46CT9D9KHZATE0S5FAZ64";
    const AGE_PUBLIC: &str = "age10xnrrmk7r0uunrcjqvkdatwsu7s8jwv0c7rt3rxggmkgntu955dq25yyzj";
    const SSH: &str = "-----BEGIN OPENSSH PRIVATE KEY-----\n\
     b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAMwAAAAtzc2gtZWQyNTUx\n\
     OQAAACAXRVO0Vt3fxpCOyrHBAf5qsh4rqgYXeVt9Q6Y0gpk/1QAAAIgyKD6BMig+gQAAAAtzc2gt\n\
     ZWQyNTUxOQAAACAXRVO0Vt3fxpCOyrHBAf5qsh4rqgYXeVt9Q6Y0gpk/1QAAAEBgYWJjZGVmZ2hp\n\
     amtsbW5vcHFyc3R1dnd4eXp7fH1+fxdFU7RW3d/GkI7KscEB/mqyHiuqBhd5W31DpjSCmT/VAAAA\n\
     AAECAwQF\n\
     -----END OPENSSH PRIVATE KEY-----\n";
    const SSH_PUBLIC: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBdFU7RW3d/GkI7KscEB/mqyHiuqBhd5W31DpjSCmT/V";
    /// As ssh-keygen makes it, with the passphrase "secret".
    const SSH_LOCKED: &str = "-----BEGIN OPENSSH PRIVATE KEY-----\n\
     b3BlbnNzaC1rZXktdjEAAAAACmFlczI1Ni1jdHIAAAAGYmNyeXB0AAAAGAAAABDa0ThYh+\n\
     gxENiaBavWbip4AAAAEAAAAAEAAAAzAAAAC3NzaC1lZDI1NTE5AAAAIJN7BN0krKXiPq7l\n\
     h4VnOg3JGQisJh7NidDD2W5eJw5rAAAAkDyOdcILGzYTK4kwTKWlAQauR6XUTOjfFtxY4b\n\
     crjfDfacCaC8eprVERpP/Yo36DeXLkv2FUJuzQHdQKWIx9nVezQ5Wbhio3IuUy4ll93JkK\n\
     9Cu8DtNWvgMZPvSUewhO5i4GTddD2vSQB2Tr59mM0lsXZs9N7r9MGUvyQ6hu+dyk65jU0w\n\
     oD+lyn1UnGLkJrHA==\n\
     -----END OPENSSH PRIVATE KEY-----\n";
    const SSH_ECDSA: &str = "-----BEGIN OPENSSH PRIVATE KEY-----\n\
     b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAaAAAABNlY2RzYS\n\
     1zaGEyLW5pc3RwMjU2AAAACG5pc3RwMjU2AAAAQQSbu9Nii3xzhaAOHr0/4/yi+u2jLdM3\n\
     PNxKWWs3U/jOsYVBmdJyi/YWlGQY5hu4SSOmqXjtp+byauEj8OdfIGwXAAAAmKUIKw2lCC\n\
     sNAAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBJu702KLfHOFoA4e\n\
     vT/j/KL67aMt0zc83EpZazdT+M6xhUGZ0nKL9haUZBjmG7hJI6apeO2n5vJq4SPw518gbB\n\
     cAAAAgQb2yeOomBjZvVpC0Q5MvG0yc7oZyMiMDeKllhL8ry8oAAAAA\n\
     -----END OPENSSH PRIVATE KEY-----\n";

    fn opens(identity: &Identity, recipient: &str) -> bool {
        let (ephemeral, kek) = Recipient::parse(recipient).unwrap().kek(Zeroizing::new([5; 32])).unwrap();
        let wrapped = kek.wrap(b"slot", &Master::new(Zeroizing::new([6; 32])));
        identity.kek(&ephemeral).and_then(|kek| kek.unwrap(b"slot", &wrapped)).is_some()
    }

    fn one(text: &str) -> Identity {
        parse_identities(text.as_bytes()).unwrap().remove(0)
    }

    #[test]
    fn an_identity_opens_what_is_sealed_for_its_recipient() {
        let (age, ssh) = (one(AGE), one(SSH));
        assert!(opens(&age, AGE_PUBLIC) && opens(&ssh, SSH_PUBLIC));
        assert!(!opens(&age, SSH_PUBLIC) && !opens(&ssh, AGE_PUBLIC));
        for (identity, public) in [(age, AGE_PUBLIC), (ssh, SSH_PUBLIC)] {
            assert!(opens(&Identity::carried(&identity.carry()).unwrap(), public));
        }
        assert!(Identity::carried(&[9; 33]).is_none());
    }

    #[test]
    fn with_a_point_of_small_order_there_is_no_agreement() {
        for ephemeral in [[0; 32], std::array::from_fn(|n| u8::from(n == 0))] {
            assert!(one(AGE).kek(&ephemeral).is_none());
        }
    }

    #[test]
    fn a_file_of_age_may_have_comments_and_several_identities() {
        let file = format!("# created: today\n# public key: {AGE_PUBLIC}\n\n{AGE}\r\n  {AGE}");
        assert_eq!(parse_identities(file.as_bytes()).unwrap().len(), 2);
    }

    #[test]
    fn what_cannot_be_used_is_refused_by_name_and_not_repeated() {
        let damaged = AGE.replace("GPQ5", "GPQ6");
        let pq = AGE.replace("KEY-1", "KEY-PQ-1");
        let cases: [(&[u8], &str); 12] = [
            (b"", "no identity in it"),
            (b"# only a comment", "no identity in it"),
            (b"secret words", "line 1: this is no identity"),
            (b"\xff\xfe", "no file of identities"),
            (damaged.as_bytes(), "line 1: the identity has a mistake"),
            (pq.as_bytes(), "not known yet"),
            (b"AGE-PLUGIN-YUBIKEY-1QQQQ", "age plugins"),
            (AGE_PUBLIC.as_bytes(), "a recipient, which opens nothing"),
            (b"age-encryption.org/v1\n\xff", "encrypted by age"),
            (b"-----BEGIN AGE ENCRYPTED FILE-----\n", "encrypted by age"),
            (SSH_LOCKED.as_bytes(), "has a passphrase"),
            (SSH_ECDSA.as_bytes(), "only keys ssh-ed25519"),
        ];
        for (file, said) in cases {
            let e = parse_identities(file).err().unwrap();
            assert!(e.to_string().contains(said), "{e}");
            assert!(!e.to_string().contains("secret words") && !e.to_string().contains("GPQ6"), "{e}");
        }
        let many = format!("{AGE}\n").repeat(1001);
        assert!(parse_identities(many.as_bytes()).err().unwrap().to_string().contains("more than 1000"));
    }

    #[test]
    fn a_damaged_key_of_ssh_is_refused() {
        let lines: Vec<&str> = SSH.lines().collect();
        let body: String = lines[1..lines.len() - 1].concat();
        let mut refused = 0;
        for at in 0..body.len() {
            let mut bad = body.clone().into_bytes();
            bad[at] = if bad[at] == b'A' { b'B' } else { b'A' };
            let bad = format!("{}\n{}\n{}\n", lines[0], String::from_utf8(bad).unwrap(), lines[lines.len() - 1]);
            refused += usize::from(parse_identities(bad.as_bytes()).is_err());
        }
        // What is not read can be anything: the options of a passphrase, the outer copy of the public key, the comment.
        assert!(refused > body.len() / 2, "{refused} of {}", body.len());
        assert!(parse_identities(format!("{}\n", lines[0]).as_bytes()).is_err());
    }
}
