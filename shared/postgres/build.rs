//! Builds again when a migration is added: the macro that embeds them watches only the files it saw.

fn main() {
    println!("cargo:rerun-if-changed=../../migrations/versioned");
}
