//! Small virtual machines: QEMU guests on taps that QEMU itself opens.
//!
//! A guest is Debian's cloud kernel with an initramfs of busybox, the network program
//! [`crate::peer`] and the virtio modules; it boots in a few seconds without KVM. Its serial
//! console reads command lines and answers each with its output and exit status, see [`Guest::sh`].
//! Kernel and busybox are taken from the machine, or else fetched as packages with
//! `apt-get download` and unpacked beside the build; nothing is installed.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::need;
use crate::netns::Netns;
use crate::peer;
use crate::process::{self, Proc, Ran, eventually};
use crate::story::Vm;

/// Modules of the network card, in the order in which they must be loaded.
const MODULES: &[&str] = &[
    "drivers/virtio/virtio_ring.ko",
    "drivers/virtio/virtio.ko",
    "drivers/virtio/virtio_pci_modern_dev.ko",
    "drivers/virtio/virtio_pci_legacy_dev.ko",
    "drivers/virtio/virtio_pci.ko",
    "net/core/failover.ko",
    "drivers/net/net_failover.ko",
    "drivers/net/virtio_net.ko",
];

/// The first program of a guest: brings up the network, then obeys the serial console.
const INIT: &str = r#"#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
for module in $(cat /modules/order); do insmod /modules/$module; done
for word in $(cat /proc/cmdline); do
    case $word in guest.ip=*) ip=${word#*=} ;; esac
done
echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6
echo 3600 > /proc/sys/net/ipv4/neigh/eth0/delay_first_probe_time
ip link set lo up
ip addr add $ip/24 dev eth0
ip link set eth0 up
/bin/peer serve $ip > /dev/null &
stty -echo
ip addr show eth0 | grep -q $ip && echo "@@ready" || poweroff -f
while read -r number line; do
    eval "$line" < /dev/null 2>&1
    echo "@@end $number $?"
done
poweroff -f
"#;

/// How long a boot or a command in a guest may take (emulated, on a busy machine).
const PATIENCE: Duration = Duration::from_secs(120);

/// What guests boot from.
#[derive(Debug, Clone)]
pub struct Images {
    kernel: PathBuf,
    initramfs: PathBuf,
}

impl Images {
    /// Finds or fetches kernel and busybox and builds the initramfs. `None`, with a note, where
    /// that is not possible (an error under `SEKISHO_TESTS=all`).
    pub fn prepare() -> Result<Option<Images>> {
        if !need::programs(&["qemu-system-x86_64"])? {
            return Ok(None);
        }
        let _turn = need::turn("guest")?;
        match Images::build() {
            Ok(images) => Ok(Some(images)),
            Err(error) => need::absent(&format!("what guests boot from: {error:#}")).map(|_| None),
        }
    }

    fn build() -> Result<Images> {
        let (kernel, modules) = kernel()?;
        let mut cpio = Cpio::default();
        for dir in ["bin", "dev", "modules", "proc", "sys", "tmp"] {
            cpio.add(dir, 0o040_755, (0, 0), b"");
        }
        // The kernel opens it for init before devtmpfs is mounted.
        cpio.add("dev/console", 0o020_600, (5, 1), b"");
        cpio.add("init", 0o100_755, (0, 0), INIT.as_bytes());
        cpio.file("bin/busybox", &busybox()?)?;
        cpio.file("bin/peer", Path::new(&peer::path()?))?;
        let mut order = String::new();
        for module in MODULES {
            let name = module.rsplit('/').next().unwrap_or(module);
            cpio.file(&format!("modules/{name}"), &modules.join("kernel").join(module))?;
            order += &format!("{name}\n");
        }
        cpio.add("modules/order", 0o100_644, (0, 0), order.as_bytes());
        let initramfs = peer::cache_dir()?.join(format!("initramfs-{}", std::process::id()));
        std::fs::write(&initramfs, cpio.finish())?;
        // Complete from the first moment under its name, because other processes may boot from it.
        let name = initramfs.with_file_name("initramfs.cpio");
        std::fs::rename(&initramfs, &name)?;
        Ok(Images { kernel, initramfs: name })
    }
}

/// The cloud kernel's image and module directory: the installed one, or one fetched earlier or now.
fn kernel() -> Result<(PathBuf, PathBuf)> {
    let fetched = peer::cache_dir()?.join("kernel");
    for root in [Path::new("/"), &fetched] {
        if let Some(found) = kernel_under(root) {
            return Ok(found);
        }
    }
    let depends = process::host(&["apt-cache", "depends", "linux-image-cloud-amd64"])?;
    let package = depends
        .lines()
        .find_map(|line| line.trim().strip_prefix("Depends: linux-image-"))
        .context("apt does not know the package linux-image-cloud-amd64")?;
    fetch(&format!("linux-image-{package}"), &fetched)?;
    kernel_under(&fetched).context("no kernel in the package")
}

fn kernel_under(root: &Path) -> Option<(PathBuf, PathBuf)> {
    let names = std::fs::read_dir(root.join("boot")).ok()?.flatten();
    let mut versions: Vec<String> = names
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            name.strip_prefix("vmlinuz-").filter(|v| v.ends_with("-cloud-amd64")).map(str::to_owned)
        })
        .collect();
    versions.sort();
    let version = versions.pop()?;
    let modules = ["lib/modules", "usr/lib/modules"].map(|d| root.join(d).join(&version));
    let modules = modules.into_iter().find(|d| d.join("kernel").join(MODULES[0]).exists())?;
    Some((root.join("boot").join(format!("vmlinuz-{version}")), modules))
}

fn busybox() -> Result<PathBuf> {
    let fetched = peer::cache_dir()?.join("busybox");
    let candidates = [
        need::find("busybox"),
        Some(fetched.join("bin/busybox")),
        Some(fetched.join("usr/bin/busybox")),
    ];
    let find = || candidates.iter().flatten().find(|file| is_static(file)).cloned();
    if let Some(found) = find() {
        return Ok(found);
    }
    fetch("busybox-static", &fetched)?;
    find().context("no static busybox in the package")
}

/// Whether an ELF file names no dynamic loader.
fn is_static(file: &Path) -> bool {
    let loader = b"/ld-linux";
    std::fs::read(file).is_ok_and(|bytes| {
        let head = &bytes[..bytes.len().min(4096)];
        !head.windows(loader.len()).any(|part| part == loader)
    })
}

/// Downloads a Debian package and unpacks it into `into`.
fn fetch(package: &str, into: &Path) -> Result<()> {
    let _ = std::fs::remove_dir_all(into);
    std::fs::create_dir_all(into)?;
    let within = Duration::from_secs(300);
    process::run_with(
        Command::new("apt-get").args(["-q", "download", package]).current_dir(into),
        b"",
        within,
    )?
    .ok()?;
    let deb = std::fs::read_dir(into)?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|e| e == "deb"))
        .with_context(|| format!("apt-get brought no {package}"))?;
    let mut unpack = Command::new("dpkg-deb");
    process::run_with(unpack.arg("-x").arg(&deb).arg(into), b"", within)?.ok()?;
    std::fs::remove_file(deb)?;
    Ok(())
}

/// An archive in cpio's "newc" format, which the kernel unpacks as its first file system.
#[derive(Debug, Default)]
struct Cpio {
    bytes: Vec<u8>,
    entries: u32,
}

impl Cpio {
    fn file(&mut self, name: &str, source: &Path) -> Result<()> {
        let content = std::fs::read(source).with_context(|| source.display().to_string())?;
        self.add(name, 0o100_755, (0, 0), &content);
        Ok(())
    }

    /// Adds an entry of `mode` (type and permissions); `device` is for device files.
    fn add(&mut self, name: &str, mode: u32, device: (u32, u32), content: &[u8]) {
        self.entries += 1;
        self.bytes.extend(b"070701");
        let fields = [
            self.entries,         // inode
            mode,                 //
            0,                    // uid
            0,                    // gid
            1,                    // links
            0,                    // mtime
            content.len() as u32, //
            0,                    // device of the file itself, major
            0,                    // and minor
            device.0,             //
            device.1,             //
            name.len() as u32 + 1,
            0, // no checksum in this format
        ];
        for field in fields {
            self.bytes.extend(format!("{field:08x}").bytes());
        }
        self.bytes.extend(name.bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn finish(mut self) -> Vec<u8> {
        self.add("TRAILER!!!", 0, (0, 0), b"");
        self.bytes
    }
}

/// A running guest; killed when dropped.
#[derive(Debug)]
pub struct Guest {
    vm: Vm,
    qemu: Proc,
    console: ChildStdin,
    commands: u32,
}

impl Guest {
    /// Starts QEMU in `ns` with its network card on tap device `tap`, which QEMU makes, and returns
    /// at once; [`Guest::ready`] waits for the boot.
    pub fn start(ns: &Netns, vm: Vm, tap: &str, images: &Images) -> Result<Guest> {
        let mut qemu = ns.command("qemu-system-x86_64");
        qemu.args(["-machine", "q35,accel=tcg", "-m", "128", "-smp", "1"])
            .args(["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"])
            .args(["-serial", "stdio", "-kernel"])
            .arg(&images.kernel)
            .arg("-initrd")
            .arg(&images.initramfs)
            .arg("-append")
            .arg(format!("console=ttyS0 quiet loglevel=1 panic=-1 guest.ip={}", vm.ip()))
            .arg("-netdev")
            .arg(format!("tap,id=net0,ifname={tap},script=no,downscript=no"))
            .arg("-device")
            .arg(format!("virtio-net-pci,netdev=net0,mac={},romfile=", vm.mac()))
            .stdin(Stdio::piped());
        let mut qemu = Proc::start(&mut qemu, &format!("qemu of {vm}"))?;
        let console = qemu.take_stdin().context("no console")?;
        Ok(Guest { vm, qemu, console, commands: 0 })
    }

    /// Waits until it has booted.
    pub fn ready(&mut self) -> Result<()> {
        self.await_console("@@ready\n").map(drop)
    }

    /// Waits for `mark` on the console and returns all that was written there.
    fn await_console(&mut self, mark: &str) -> Result<String> {
        let (vm, qemu) = (self.vm, &mut self.qemu);
        let seen = eventually(&format!("{mark:?} on the console of {vm}"), PATIENCE, || {
            let text = qemu.stdout().replace('\r', "");
            if text.contains(mark) {
                return Ok(Some(text));
            }
            ensure!(qemu.alive(), "qemu of {vm} ended: {text}{}", qemu.stderr());
            Ok(None)
        });
        seen.with_context(|| format!("console of {vm}:\n{}", self.qemu.stdout()))
    }

    /// Runs a line of shell in the guest to its end. Both outputs come in `stdout`.
    pub fn sh(&mut self, line: &str) -> Result<Ran> {
        ensure!(!line.contains('\n'), "one line at a time");
        let before = self.qemu.stdout().replace('\r', "").len();
        self.commands += 1;
        let number = self.commands;
        self.console.write_all(format!("{number} {line}\n").as_bytes())?;
        let mark = format!("@@end {number} ");
        let text = eventually_status(|| self.await_console(&mark), &mark)?;
        let Some((output, status)) = text[before..].split_once(&mark) else {
            bail!("the console of {} went astray: {text}", self.vm)
        };
        Ok(Ran {
            command: format!("{}: {line}", self.vm),
            status: status.lines().next().and_then(|s| s.trim().parse().ok()),
            stdout: output.to_owned(),
            stderr: String::new(),
        })
    }

    /// Process id of QEMU.
    pub fn pid(&self) -> u32 {
        self.qemu.pid()
    }
}

/// Reads the console until the whole line that begins with `mark` is there.
fn eventually_status(mut read: impl FnMut() -> Result<String>, mark: &str) -> Result<String> {
    eventually("the end of a line", PATIENCE, || {
        let text = read()?;
        let rest = text.split_once(mark).map_or("", |(_, rest)| rest);
        Ok(rest.contains('\n').then_some(text))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_is_what_cpio_reads() {
        let mut cpio = Cpio::default();
        cpio.add("dir", 0o040_755, (0, 0), b"");
        cpio.add("dir/file", 0o100_644, (0, 0), b"hello");
        let bytes = cpio.finish();
        assert_eq!(bytes.len() % 4, 0);
        if need::find("cpio").is_some() {
            let ran =
                process::run_with(Command::new("cpio").arg("-itv"), &bytes, process::DEADLINE)
                    .unwrap();
            let listing = ran.ok().unwrap();
            assert!(listing.contains("-rw-r--r--") && listing.contains(" 5 "), "{listing}");
            assert!(listing.contains("dir/file"), "{listing}");
        }
    }

    #[test]
    fn two_guests_talk_over_a_linux_bridge() {
        let Some(images) = Images::prepare().unwrap() else { return };
        let _turn = need::turn("cpu").unwrap();
        let sw = Netns::new("switch").unwrap();
        let mut one = Guest::start(&sw, Vm::One, "tap2", &images).unwrap();
        let mut two = Guest::start(&sw, Vm::Two, "tap4", &images).unwrap();
        sw.ip("link add br0 type bridge stp_state 0 forward_delay 0").unwrap();
        sw.ip("link set br0 up").unwrap();
        one.ready().unwrap();
        two.ready().unwrap();
        for tap in ["tap2", "tap4"] {
            sw.ip(&format!("link set {tap} master br0 up")).unwrap();
        }
        let ping = one.sh("ping -c 3 192.168.0.2").unwrap();
        assert!(ping.success() && ping.stdout.contains(" 0% packet loss"), "{ping}");
        let telnet = one.sh("(echo hello; sleep 1) | telnet 192.168.0.2 23").unwrap();
        assert!(telnet.stdout.contains("hello"), "{telnet}");
        let dns = two.sh("nslookup www.example.org 192.168.0.1").unwrap();
        assert!(dns.success() && dns.stdout.contains("192.168.0.1"), "{dns}");
        assert_eq!(one.sh("false").unwrap().status, Some(1));
    }
}
