//! Buckets of servers of S3, started on the loopback: what is read through them is what they have, and what is written is there.

#[path = "common/desk.rs"]
mod desk;
#[path = "common/dress.rs"]
mod dress;
#[path = "common/servers.rs"]
mod servers;

use servers::{assert_mounts, assert_takes_changes, code, desk, fill, moto, s3s};
use std::fs;
use std::process::Command;

const NOT_FOUND: i32 = 10;
const NOT_LET_IN: i32 = 41;
const NETWORK: i32 = 42;

#[test]
fn archives_and_folders_of_a_bucket() {
    let Some(desk) = desk() else { return };
    fill(&desk);
    // There are no directories in a bucket: an empty one is nothing.
    fs::remove_dir(desk.path("root/tree/empty")).unwrap();
    let Some((_server, port)) = s3s(&desk) else { return };
    fs::rename(desk.path("root"), desk.path("buckets/bucket")).unwrap();
    let endpoint = format!("endpoint=http://127.0.0.1:{port}");
    for kind in ["st", "zip"] {
        assert_mounts(&desk, &format!("nocache,{endpoint}"), &format!("s3://bucket/x.{kind}"));
    }
    desk.ok(&["-o", &format!("nocache,{endpoint}"), "s3://bucket/tree/", "m"]);
    let diff =
        Command::new("diff").arg("-r").args([desk.path("buckets/bucket/tree"), desk.path("m")]).output().unwrap();
    desk.ok(&["umount", "m"]);
    assert!(diff.status.success(), "{}", String::from_utf8_lossy(&diff.stdout));
    let by = format!("--endpoint=http://127.0.0.1:{port}");
    assert!(desk.ok(&["cat", &by, "s3://bucket/x.zip!sub/text"]).starts_with("a line of text\n"));
    assert_eq!(code(&desk, &["ls", &by, "s3://bucket/missing.zip"]), NOT_FOUND);
    assert_eq!(code(&desk, &["ls", &by, "s3://no-bucket/x.zip"]), NOT_FOUND);
    assert_eq!(
        code(&desk, &["ls", "--deadline=1s", "--endpoint=http://127.0.0.1:1", "s3://bucket/never.zip"]),
        NETWORK
    );
    fs::write(desk.path("home/.aws/credentials"), "[default]\naws_access_key_id = OTHER\naws_secret_access_key = x\n")
        .unwrap();
    assert_eq!(code(&desk, &["ls", &by, "s3://bucket/x.zip"]), NOT_LET_IN);
    fs::remove_dir_all(desk.path("home/.aws")).unwrap();
    assert_eq!(code(&desk, &["ls", &by, "s3://bucket/x.zip"]), NOT_LET_IN);
}

#[test]
fn s3s_is_written_to() {
    let Some(desk) = desk() else { return };
    let Some((server, port)) = s3s(&desk) else { return };
    fs::create_dir(desk.path("buckets/bucket")).unwrap();
    assert_takes_changes(
        &desk,
        &format!("endpoint=http://127.0.0.1:{port}"),
        "s3://bucket/dir/",
        Some(&|name| server.signal(name)),
    );
}

#[test]
fn moto_is_written_to() {
    let Some(desk) = desk() else { return };
    let Some((server, port)) = moto(&desk) else { return };
    let made = Command::new("curl").args(["-sf", "-X", "PUT", &format!("http://127.0.0.1:{port}/bucket")]).status();
    assert!(made.unwrap().success());
    assert_takes_changes(
        &desk,
        &format!("endpoint=http://127.0.0.1:{port}"),
        "s3://bucket/",
        Some(&|name| server.signal(name)),
    );
}
