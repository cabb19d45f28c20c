//! A disk for one data center that can be filled, turned read-only and slowed down.
//!
//! As root it is an ext4 in a file on a file system in memory, because only a file system on a device can do all
//! three: a read-only one is made by ext4's own way of reporting an error (`errors=remount-ro`), a slow one by
//! freezing it for most of the time, so that every write and every flush of the data center waits. An ordinary user
//! gets a file system in memory, which can only be filled.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use dujiang_testkit::processes;
use dujiang_types::DcId;
use nix::unistd::geteuid;

use crate::fault::power;

/// Room for three small databases with their log, and some more.
const SIZE_MB: u32 = 900;
/// Of a slow disk: for how long nothing is written, and for how long it is.
const STUCK: Duration = Duration::from_millis(300);
const MOVES: Duration = Duration::from_millis(60);

/// The disk.
#[derive(Debug, Clone)]
pub struct Disk {
    folder: PathBuf,
    /// The file that is the device; none if it is a file system in memory.
    image: Option<PathBuf>,
}

impl Disk {
    /// Puts a data center's folder on it. The data center is switched off meanwhile.
    pub fn install(data: &Path, dc: &DcId) -> io::Result<Self> {
        power(data, dc, false)?;
        processes::kill_all(data, Some(dc))?;
        let folder = data.join("dc").join(dc.as_str());
        let beside = data.with_file_name("disk");
        fs::create_dir_all(&beside)?;
        run(
            "mount",
            &["-t", "tmpfs", "-o", &format!("size={}m,mode=755", SIZE_MB + 20), "none", &text(&beside)],
        )?;
        let disk = if geteuid().is_root() {
            let image = beside.join("image");
            run("truncate", &["-s", &format!("{SIZE_MB}M"), &text(&image)])?;
            run("mkfs.ext4", &["-q", "-F", &text(&image)])?;
            Self { folder, image: Some(image) }
        } else {
            Self { folder, image: None }
        };
        let content = data.with_file_name("content");
        fs::rename(&disk.folder, &content)?;
        fs::create_dir(&disk.folder)?;
        disk.mount()?;
        run("cp", &["-a", &format!("{}/.", text(&content)), &text(&disk.folder)])?;
        // What was written before the data center had this disk is as safe as it was there.
        run("sync", &["-f", &text(&disk.folder)])?;
        fs::remove_dir_all(&content)?;
        power(data, dc, true)?;
        Ok(disk)
    }

    /// True if it can do more than be full.
    pub fn is_device(&self) -> bool {
        self.image.is_some()
    }

    fn mount(&self) -> io::Result<()> {
        match &self.image {
            Some(image) => run("mount", &["-o", "loop,errors=remount-ro", &text(image), &text(&self.folder)]),
            None => {
                run("mount", &["-t", "tmpfs", "-o", &format!("size={SIZE_MB}m"), "none", &text(&self.folder)])
            }
        }
    }

    /// Fills it to the last block.
    pub fn fill(&self) -> io::Result<()> {
        // It ends with "no space left", as it should.
        let file = format!("of={}", text(&self.folder.join("full")));
        Command::new("dd").args(["if=/dev/zero", "bs=1M", &file]).output()?;
        Command::new("dd").args(["if=/dev/zero", "bs=4k", "oflag=append", "conv=notrunc", &file]).output()?;
        Ok(())
    }

    /// Gives the room back.
    pub fn make_room(&self) -> io::Result<()> {
        fs::remove_file(self.folder.join("full"))
    }

    /// Reports an error to the file system, which turns itself read-only.
    pub fn turn_read_only(&self) -> io::Result<()> {
        let source = Command::new("findmnt").args(["-n", "-o", "SOURCE", &text(&self.folder)]).output()?;
        let device = String::from_utf8_lossy(&source.stdout).trim().replace("/dev/", "");
        fs::write(format!("/sys/fs/ext4/{device}/trigger_fs_error"), "the laboratory says so")
    }

    /// Checks the file system and mounts it again; nobody may use it.
    pub fn repair(&self) -> io::Result<()> {
        run("umount", &[&text(&self.folder)])?;
        if let Some(image) = &self.image {
            // 1 says that something was corrected.
            let status = Command::new("e2fsck").args(["-fy", &text(image)]).output()?.status;
            if status.code().is_none_or(|code| code > 1) {
                return Err(io::Error::other(format!("e2fsck: {status}")));
            }
        }
        self.mount()
    }

    /// Slows it down until the returned value is ended.
    pub fn slow(&self) -> Slow {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, folder) = (Arc::clone(&stop), text(&self.folder));
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                // Frozen and thawed by one process: nothing of ours stands between the two.
                let script =
                    format!("fsfreeze -f \"$0\" && sleep {} ; fsfreeze -u \"$0\"", STUCK.as_secs_f64());
                let _ = Command::new("sh").args(["-c", &script, &folder]).output();
                thread::sleep(MOVES);
            }
        });
        Slow { stop, thread: Some(thread) }
    }
}

/// A disk that is slow.
#[derive(Debug)]
pub struct Slow {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Slow {
    /// Ends it.
    pub fn end(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn run(program: &str, args: &[&str]) -> io::Result<()> {
    let output = Command::new(program).args(args).output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(format!("{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr))))
}
