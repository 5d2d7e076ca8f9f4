//! The names of our snapshots, which distinguish them from those of others.

use uuid::Uuid;

const PREFIX: &str = "virtuozo-";
const FENCE: &str = "-f";

/// The name of the snapshot that one guest run takes under one fence.
pub fn make(guest_run_id: Uuid, fence: i64) -> String {
    format!("{PREFIX}{}{FENCE}{fence}", guest_run_id.simple())
}

/// Whether a snapshot was made by Virtuozo: exactly what [`make`] writes, nothing more or less.
pub fn is_ours(name: &str) -> bool {
    parse(name).is_some_and(|(guest_run_id, fence)| make(guest_run_id, fence) == name)
}

/// The guest run and the fence in the name of one of our snapshots.
pub fn parse(name: &str) -> Option<(Uuid, i64)> {
    let (id, fence) = name.strip_prefix(PREFIX)?.split_once(FENCE)?;
    Some((Uuid::try_parse(id).ok()?, fence.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_names_are_recognised_and_nothing_like_them() {
        let id = Uuid::from_u128(0x0123_4567_89ab_cdef_0011_2233_4455_6677);
        let name = make(id, 7);
        assert_eq!(name, "virtuozo-0123456789abcdef0011223344556677-f7");
        assert!(is_ours(&name));
        assert_eq!(parse(&name), Some((id, 7)));
        for other in [
            "virtuozo",
            "virtuozo-0123456789abcdef0011223344556677",
            "virtuozo-0123456789abcdef0011223344556677-f",
            "virtuozo-0123456789abcdef0011223344556677-f+7",
            "virtuozo-0123456789abcdef0011223344556677-f07",
            "virtuozo-0123456789ABCDEF0011223344556677-f7",
            "virtuozo-01234567-89ab-cdef-0011-223344556677-f7",
            "virtuozo-0123456789abcdef0011223344556677-f7 ",
            "Virtuozo-0123456789abcdef0011223344556677-f7",
            "my virtuozo-0123456789abcdef0011223344556677-f7",
        ] {
            assert!(!is_ours(other), "{other}");
        }
    }
}
