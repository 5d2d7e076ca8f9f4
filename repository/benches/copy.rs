//! How fast a disk is copied, verified and restored, beside `cp` and `qemu-img` in the same run.
//!
//! The image is a quarter random, a quarter text-like and half zeros that are really stored, so every
//! program has to find them itself; it is read once before, so that all read it from memory. All
//! results are on stable storage when the clock stops: `cp` and `qemu-img` are followed by a sync of
//! their file, as the repository syncs its own. `BENCH_DIR` names another place to work in,
//! `BENCH_MIB` another size of the image.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "nothing can go on without a step"
)]

use std::{
    env, fs,
    fs::File,
    io::{BufWriter, Read, Write},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use chrono::Utc;
use uuid::Uuid;
use virtuozo_disk::RawFile;
use virtuozo_repository::{
    DiskProperties, FileFormat, FileSpec, NewPoint, PointMode, PublishedPoint, Repository,
    RestoreOptions, Unobserved, restore,
};

const ROUNDS: u128 = 5;

fn main() {
    let mib: u64 = env::var("BENCH_MIB").map_or(1024, |text| text.parse().unwrap());
    let base = env::var_os("BENCH_DIR").map_or_else(env::temp_dir, PathBuf::from);
    let dir = tempfile::tempdir_in(base).unwrap();
    let image = dir.path().join("image.raw");
    write_image(&image, mib);
    let repo = Repository::create(dir.path().join("repository")).unwrap();

    let names = [
        "cp --sparse=always",
        "qemu-img convert -O vmdk",
        "virtuozo copy (with BLAKE3)",
        "virtuozo verify",
        "virtuozo restore",
    ];
    let mut best = [Duration::MAX; 5];
    for round in 1..=ROUNDS {
        // Each step's files are removed before the next, so that all find the same free memory.
        let copy = dir.path().join("copy");
        let cp = timed(|| run("cp", &["--sparse=always"], &image, &copy));
        fs::remove_file(&copy).unwrap();
        let to_vmdk = ["convert", "-f", "raw", "-O", "vmdk"];
        let qemu = timed(|| run("qemu-img", &to_vmdk, &image, &copy));
        fs::remove_file(&copy).unwrap();
        let mut point = None;
        let backup = timed(|| point = Some(back_up(&repo, round, &image)));
        let published = point.unwrap();
        let path = published.path;
        let verify = timed(|| assert!(repo.verify(&path, None, &Unobserved).unwrap().ok));
        let restored = timed(|| {
            restore(
                &repo.root().join(&path),
                &copy,
                &RestoreOptions::default(),
                &Unobserved,
            )
            .unwrap();
        });
        fs::remove_dir_all(&copy).unwrap();
        repo.remove_point(&path, published.point_id).unwrap();
        for (best, time) in best.iter_mut().zip([cp, qemu, backup, verify, restored]) {
            *best = time.min(*best);
        }
    }

    println!("{mib} MiB image, best of {ROUNDS} rounds, all synced");
    println!("{:30} {:>8} {:>8} {:>10}", "", "seconds", "MiB/s", "cp = 1");
    for (name, time) in names.iter().zip(best) {
        let secs = time.as_secs_f64();
        println!(
            "{name:30} {secs:8.2} {:8.0} {:10.2}",
            mib as f64 / secs,
            best[0].as_secs_f64() / secs
        );
    }
}

fn timed(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

fn run(program: &str, args: &[&str], from: &Path, to: &Path) {
    let status = Command::new(program)
        .args(args)
        .args([from, to])
        .status()
        .unwrap_or_else(|error| panic!("{program} cannot be started: {error}"));
    assert!(status.success(), "{program}: {status}");
    File::open(to).unwrap().sync_all().unwrap();
}

fn back_up(repo: &Repository, round: u128, image: &Path) -> PublishedPoint {
    let mut writer = repo
        .begin(NewPoint {
            point_id: Uuid::from_u128(round),
            guest_run_id: Uuid::from_u128(round),
            fence: 1,
            host: "bench".to_owned(),
            guest: "bench".to_owned(),
            locator: "bench.vmx".to_owned(),
            guest_uuid: None,
            mode: PointMode::Cold,
            taken_at: Utc::now(),
            foreign_snapshots: Vec::new(),
            software_version: env!("CARGO_PKG_VERSION").to_owned(),
        })
        .unwrap();
    let spec = FileSpec {
        name: "disk.vmdk".to_owned(),
        device: Some("scsi0:0".to_owned()),
        format: FileFormat::Disk {
            parent: None,
            properties: DiskProperties {
                adapter: Some("lsilogic".to_owned()),
                back_end: [("virtualHWVersion".to_owned(), "7".to_owned())].into(),
                ..DiskProperties::default()
            },
        },
    };
    writer
        .add_file(&spec, &RawFile::open(image).unwrap(), &Unobserved)
        .unwrap();
    repo.publish(&writer.seal().unwrap()).unwrap()
}

/// Runs of 1 MiB: random, zeros, text, zeros, and so on.
fn write_image(path: &Path, mib: u64) {
    let mut out = BufWriter::new(File::create(path).unwrap());
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut run = Vec::with_capacity(1 << 20);
    for number in 0..mib {
        run.clear();
        while run.len() < 1 << 20 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            match number % 4 {
                0 => run.extend(state.to_le_bytes()),
                2 => writeln!(run, "entry {:06} state ok", state % 1_000_000).unwrap(),
                _ => run.resize(1 << 20, 0),
            }
        }
        run.truncate(1 << 20);
        out.write_all(&run).unwrap();
    }
    let file = out.into_inner().unwrap();
    file.sync_all().unwrap();
    let mut read = File::open(path).unwrap();
    let mut buf = vec![0; 1 << 20];
    while read.read(&mut buf).unwrap() > 0 {}
}
