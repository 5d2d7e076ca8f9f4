//! Tests of the key file and of what it seals.

use std::os::unix::fs::PermissionsExt;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

fn key(dir: &TempDir) -> Key {
    Key::load_or_create(&dir.path().join("sub/key")).unwrap()
}

fn sealed_password(key: &Key, host: Uuid) -> Vec<u8> {
    key.seal(host, &SecretString::from("correct horse"))
        .unwrap()
}

#[test]
fn a_password_opens_with_the_same_key_for_the_same_host_only() {
    let dir = TempDir::new().unwrap();
    let (host, other) = (Uuid::now_v7(), Uuid::now_v7());
    let sealed = sealed_password(&key(&dir), host);
    assert!(!sealed.windows(5).any(|w| w == b"horse"));
    assert_eq!(
        key(&dir).open(host, &sealed).unwrap().expose_secret(),
        "correct horse"
    );
    assert!(matches!(
        key(&dir).open(other, &sealed),
        Err(SecretError::WrongKey)
    ));
    let stranger = key(&TempDir::new().unwrap());
    assert!(matches!(
        stranger.open(host, &sealed),
        Err(SecretError::WrongKey)
    ));
    assert_ne!(
        sealed,
        sealed_password(&key(&dir), host),
        "a nonce is used once"
    );
}

#[test]
fn the_key_file_is_the_owners_alone_and_a_readable_one_is_refused() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("key");
    Key::load_or_create(&path).unwrap();
    assert_eq!(
        path.metadata().unwrap().permissions().mode() & 0o7777,
        0o600
    );
    assert_eq!(
        std::fs::read_dir(dir.path()).unwrap().count(),
        1,
        "nothing is left beside it"
    );
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let error = Key::load_or_create(&path).unwrap_err();
    assert!(error.to_string().contains("chmod 600"), "{error}");
}

#[test]
fn a_group_may_read_a_key_only_if_root_owns_it_and_lends_it() {
    for (owner, mode, refused) in [
        (1000, 0o600, false),
        (1000, 0o640, true),
        (0, 0o600, false),
        (0, 0o440, false),
        (0, 0o640, false),
        (0, 0o660, true),
        (0, 0o644, true),
    ] {
        let open = mode & closed_to_others(owner) != 0;
        assert_eq!(open, refused, "owner {owner}, mode {mode:o}");
    }
}

#[test]
fn a_missing_or_malformed_key_is_an_error_that_names_the_file() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("key");
    let error = Key::load(&path).unwrap_err().to_string();
    assert!(
        error.contains("VIRTUOZO_KEY_FILE") && error.contains("key"),
        "{error}"
    );
    for text in ["", "abc", "zz", &"0".repeat(63), &"0".repeat(66)] {
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert!(
            matches!(
                Key::load_or_create(&path),
                Err(SecretError::KeyMalformed(_))
            ),
            "{text}"
        );
    }
}

#[test]
fn a_password_for_one_address_and_user_opens_for_no_other() {
    let dir = TempDir::new().unwrap();
    let key = key(&dir);
    let id = Uuid::now_v7();
    let opens = |address, user| Opens { id, address, user };
    let right = opens(Some("https://alpha/sdk"), Some("backup"));
    let sealed = key.seal(right, &"secret".into()).unwrap();
    assert_eq!(key.open(right, &sealed).unwrap().expose_secret(), "secret");
    for wrong in [
        opens(Some("https://evil/sdk"), Some("backup")),
        opens(Some("https://alpha/sdk"), Some("root")),
        opens(Some("https://alpha/sdkbackup"), Some("")),
        opens(Some("https://alpha/sdk"), None),
        opens(None, Some("backup")),
        opens(None, None),
    ] {
        let opened = key.open(wrong, &sealed);
        assert!(matches!(opened, Err(SecretError::WrongKey)), "{wrong:?}");
    }
    // What is bound to the id alone does not open for a place either, whatever its version byte says.
    let mut loose = key.seal(id, &"secret".into()).unwrap();
    assert!(key.open(right, &loose).is_err());
    loose[0] = BOUND_TO_PLACE;
    assert!(key.open(right, &loose).is_err());
}

#[test]
fn a_key_file_keeps_the_keys_of_before_a_rotation() {
    let dir = TempDir::new().unwrap();
    let old = key(&dir);
    let host = Uuid::now_v7();
    let sealed = sealed_password(&old, host);
    let path = dir.path().join("sub/key");
    let lines = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("{}\n\n{lines}", "ab".repeat(KEY_BYTES))).unwrap();
    let rotated = Key::load(&path).unwrap();
    assert!(rotated.open(host, &sealed).is_ok());
    let new = sealed_password(&rotated, host);
    assert!(old.open(host, &new).is_err(), "the new key is used");
    let secrets: Vec<_> = rotated.manifest_secrets().collect();
    assert_eq!(secrets.len(), 2);
    assert_eq!(secrets.last(), old.manifest_secrets().next().as_ref());
    assert_ne!(
        secrets[0], [0xab; KEY_BYTES],
        "the key itself authenticates nothing"
    );
}

#[test]
fn many_who_make_the_key_at_once_get_the_same_one() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("key");
    let host = Uuid::now_v7();
    let sealed: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| sealed_password(&Key::load_or_create(&path).unwrap(), host)))
            .collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    let key = Key::load(&path).unwrap();
    assert!(sealed.iter().all(|s| key.open(host, s).is_ok()));
}

#[test]
fn a_key_shows_nothing_of_itself() {
    let dir = TempDir::new().unwrap();
    assert_eq!(format!("{:?}", key(&dir)), "Key(…)");
}

proptest! {
    #[test]
    fn a_changed_or_cut_password_never_opens(at in 0..54usize, flip in 1..=255u8, cut in 0..54usize) {
        let key = Key { current: [7; KEY_BYTES].into(), earlier: Vec::new() };
        let host = Uuid::nil();
        let sealed = sealed_password(&key, host);
        prop_assert_eq!(sealed.len(), 54);
        let mut changed = sealed.clone();
        changed[at] ^= flip;
        prop_assert!(key.open(host, &changed).is_err());
        prop_assert!(key.open(host, &sealed[..cut]).is_err());
    }
}
