#!/usr/bin/env python3
"""Plays the conversations beside this file through a stock OVS userspace datapath (by hand, as root).

usage: stock.py [--record] FILE.rows...

Prints every row on which the installed ovs-vswitchd gives another verdict than the row says
(--record: rewrites the files with what OVS says). The daemon runs in a network namespace of its
own, with simulated time; packets go in by packet-out and verdicts come back as packet-ins.
The row language is described in conversations.rs.
"""
import os, re, shutil, socket, struct, subprocess, sys, tempfile, time, queue, threading

NS = f"conntrack-{os.getpid()}"
A4, B4, R4 = "10.0.0.1", "10.0.0.2", "10.0.0.9"
A6, B6, R6 = "fc00::1", "fc00::2", "fc00::9"

def csum(data):
    if len(data) % 2: data += b"\0"
    s = sum(struct.unpack(f"!{len(data)//2}H", data))
    while s >> 16: s = (s & 0xffff) + (s >> 16)
    return ~s & 0xffff

def addr(a): return socket.inet_pton(socket.AF_INET6 if ":" in a else socket.AF_INET, a)

def pseudo(src, dst, proto, n):
    s, d = addr(src), addr(dst)
    return s + d + (struct.pack("!BBH", 0, proto, n) if len(s) == 4 else struct.pack("!IHBB", n, 0, 0, proto))

def ip(src, dst, proto, body, o):
    if ":" in src:
        return struct.pack("!IHBB", 6 << 28, len(body), proto, 64) + addr(src) + addr(dst) + body
    frag = int(o.get("frag", "0"), 0)
    h = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 1, frag, 64, proto, 0) + addr(src) + addr(dst)
    c = csum(h) ^ (0x5555 if "badip" in o else 0)
    return h[:10] + struct.pack("!H", c) + h[12:] + body

FLAGS = {"F": 1, "S": 2, "R": 4, "P": 8, "A": 16, "U": 32, "E": 64, "C": 128}

def packet(words, o, up, v6):
    a, b, r = (A6, B6, R6) if v6 else (A4, B4, R4)
    src, dst = (a, b) if up else (b, a)
    ports = [int(o.get("sport", 1000)), int(o.get("dport", 80))]
    sp, dp = ports if up else ports[::-1]
    kind = words[0]
    if kind == "tcp":
        fl = sum(FLAGS[c] for c in words[1] if c != "-")
        opt = b"" if "ws" not in o else struct.pack("!BBBB", 3, 3, int(o["ws"]), 1)
        doff = int(o.get("doff", 5 + len(opt) // 4))
        seg = struct.pack("!HHIIBBHHH", sp, dp, int(o.get("seq", 0)) & 0xffffffff, int(o.get("ack", 0)) & 0xffffffff,
                          doff << 4, fl, int(o.get("win", 1000)), 0, 0) + opt + b"x" * int(o.get("len", 0))
        proto, at = 6, 16
    elif kind == "udp":
        data = b"x" * int(o.get("len", 4))
        seg = struct.pack("!HHHH", sp, dp, int(o.get("ulen", 8 + len(data))), 0) + data
        proto, at = 17, 6
    elif kind == "icmp":
        proto, at = (58 if v6 else 1), 2
        body = struct.pack("!HH", int(o.get("id", 7)), 1) + b"pingdata"
        if "inner" in o:
            body = b"\0" * 4 + o["inner"]
        if "cut" in o: body = body[:int(o["cut"])]
        seg = struct.pack("!BBH", int(o["type"]), int(o.get("code", 0)), 0) + body
        if "router" in o: src = r
    elif kind == "proto":
        proto, at, seg = int(words[1]), None, b"whatever"
    elif kind == "sctp":
        proto, at, seg = 132, None, struct.pack("!HHII", sp, dp, 1, 0) + b"\1\0\0\4"
    if at is not None:
        ps = b"" if (kind == "icmp" and not v6) else pseudo(src, dst, proto, len(seg))
        c = csum(ps + seg)
        if kind == "udp" and c == 0: c = 0xffff
        if "badsum" in o: c ^= 0x1234
        if "nosum" in o: c = 0
        seg = seg[:at] + struct.pack("!H", c) + seg[at + 2:]
    return ip(src, dst, proto, seg, o)

def parse_spec(text, up, v6):
    """'tcp S seq=1 [inner...]' -> (ip packet, options)"""
    inner = None
    m = re.search(r"\((.*)\)", text)
    if m:
        t = m.group(1).strip()
        inner, _ = parse_spec(t[1:], t[0] == ">", v6)
        text = text[:m.start()] + text[m.end():]
    words, o = [], {}
    for w in text.split():
        if "=" in w: k, v = w.split("=", 1); o[k] = v
        elif words and w in ("badsum", "nosum", "badip", "router"): o[w] = "1"
        else: words.append(w)
    if inner is not None:
        o["inner"] = inner[:int(o.get("quote", len(inner)))]
    return packet(words, o, up, v6), o

def frame(ipkt):
    eth = b"\2\0\0\0\0\2\2\0\0\0\0\1" + (b"\x86\xdd" if ipkt[0] >> 4 == 6 else b"\x08\0")
    return eth + ipkt

class Ovs:
    TABLES = """table=1,actions=controller
table=2,priority=2,ct_state=+new+trk,ip,actions=controller,ct(commit,zone=NXM_NX_CT_ZONE[])
table=2,priority=2,ct_state=+new+trk,ipv6,actions=controller,ct(commit,zone=NXM_NX_CT_ZONE[])
table=2,priority=1,actions=controller
table=3,ip,actions=controller,ct(commit,zone=NXM_NX_CT_ZONE[],exec(set_field:0x5->ct_mark,set_field:0x77->ct_label))
table=3,ipv6,actions=controller,ct(commit,zone=NXM_NX_CT_ZONE[],exec(set_field:0x5->ct_mark,set_field:0x77->ct_label))
table=4,ip,actions=controller,ct(commit,force,zone=NXM_NX_CT_ZONE[])
table=4,ipv6,actions=controller,ct(commit,force,zone=NXM_NX_CT_ZONE[])
"""
    def __init__(self):
        self.d = tempfile.mkdtemp(prefix="conntrack-")
        self.env = dict(os.environ, OVS_RUNDIR=self.d, OVS_LOGDIR=self.d, OVS_DBDIR=self.d, OVS_SYSCONFDIR=self.d)
        subprocess.check_call(["ip", "netns", "add", NS])
        self.run("ovsdb-tool", "create", f"{self.d}/conf.db", "/usr/share/openvswitch/vswitch.ovsschema")
        self.procs = []
        self.spawn("ovsdb-server", f"{self.d}/conf.db", f"--remote=punix:{self.d}/db.sock", "--pidfile")
        self.wait(f"{self.d}/db.sock")
        self.run("ovs-vsctl", "--no-wait", "init")
        self.spawn("ip", "netns", "exec", NS, "ovs-vswitchd", "--enable-dummy", "--disable-system", "--pidfile",
                   f"unix:{self.d}/db.sock")
        time.sleep(1)
        self.run("ovs-vsctl", "add-br", "br0", "--", "set", "bridge", "br0", "datapath_type=dummy",
                 "fail-mode=secure", "protocols=OpenFlow10,OpenFlow13")
        p = subprocess.run(["ovs-ofctl", "add-flows", "br0", "-"], input=self.TABLES, text=True, env=self.env)
        assert p.returncode == 0
        self.mon = self.spawn("ovs-ofctl", "-P", "nxt_packet_in2", "monitor", "br0", "65534", out=subprocess.PIPE)
        self.q = queue.Queue()
        def reader():
            for line in self.mon.stderr: self.q.put(line.decode())
        threading.Thread(target=reader, daemon=True).start()
        time.sleep(0.5)
        self.app("time/stop")
    def wait(self, p):
        for _ in range(100):
            if os.path.exists(p): return
            time.sleep(0.05)
    def spawn(self, *a, out=subprocess.DEVNULL):
        # `ovs-ofctl monitor` prints on stderr.
        p = subprocess.Popen(a, env=self.env, stdout=subprocess.DEVNULL, stderr=out); self.procs.append(p); return p
    def run(self, *a): return subprocess.check_output(a, env=self.env, text=True)
    def app(self, *a): return self.run("ovs-appctl", *a)
    def send(self, data, table, zone):
        while not self.q.empty(): self.q.get()
        self.run("ovs-ofctl", "packet-out", "br0", f"in_port=LOCAL packet={data.hex()} actions=ct(table={table},zone={zone})")
        while True:
            try: line = self.q.get(timeout=0.3)
            except queue.Empty: return "nothing", ""
            if "PACKET_IN" in line: break
        m = re.search(r"ct_state=([a-z|]+)", line)
        mark = re.search(r"ct_mark=(\S+?)[, ]", line)
        st = m.group(1) if m else "untracked"
        bits = [b for b in st.split("|") if b != "trk"]
        return " ".join(bits) or "trk", (f"mark={int(mark.group(1),0)}" if mark else "")
    def close(self):
        for p in self.procs[::-1]:
            p.terminate()
            try: p.wait(3)
            except subprocess.TimeoutExpired: p.kill()
        subprocess.call(["ip", "netns", "del", NS]); shutil.rmtree(self.d, ignore_errors=True)

def play(ovs, path, record):
    out, bad, v6, ndump = [], 0, False, []
    for line in open(path):
        raw = line.rstrip("\n"); text = raw.split("#")[0].strip()
        if not text: out.append(raw); continue
        head, _, want = (x.strip() for x in text.partition("=>"))
        got = None
        if text.startswith("== "):
            v6 = text.endswith(" v6"); ovs.app("dpctl/flush-conntrack")
        elif head.startswith("+"):
            ovs.app("time/warp", str(int(float(head[1:]) * 1000)))
        elif head[0] in "<>":
            ipkt, o = parse_spec(head[1:], head[0] == ">", v6)
            table = {"no": 1, "new": 2, "mark": 3, "force": 4}[o.get("commit", "new")]
            st, mark = ovs.send(frame(ipkt), table, int(o.get("zone", 0)))
            got = " ".join(x for x in (st, mark) if x)
        elif head.startswith("dump"):
            lines = ovs.app("dpctl/dump-conntrack", *head.split()[1:]).splitlines()
            got = " ;; ".join(sorted(lines)) or "none"
        elif head.startswith("stats"):
            got = " | ".join(l.strip() for l in ovs.app("dpctl/ct-stats-show", "-m").splitlines())
        if got is not None and got != want:
            bad += 1
            print(f"{path}: {head}\n    row:   {want}\n    stock: {got}")
            if record: raw = f"{head} => {got}" + ("  #" + raw.split("#", 1)[1] if "#" in raw else "")
        out.append(raw)
    if record: open(path, "w").write("\n".join(out) + "\n")
    return bad

if __name__ == "__main__":
    record = "--record" in sys.argv
    files = [a for a in sys.argv[1:] if not a.startswith("-")]
    ovs = Ovs()
    try: bad = sum(play(ovs, f, record) for f in files)
    finally: ovs.close()
    print(f"{bad} rows differ")
    sys.exit(bad != 0)
