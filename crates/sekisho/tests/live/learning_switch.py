"""A learning switch for os-ken, in the OpenFlow version that the environment names.

Unknown destinations are flooded; a known one gets a flow. In 1.0 a miss comes up by itself; since
1.3 a flow of the lowest priority asks for it.
"""

import os

from os_ken.base import app_manager
from os_ken.controller import ofp_event
from os_ken.controller.handler import CONFIG_DISPATCHER, MAIN_DISPATCHER, set_ev_cls
from os_ken.lib.packet import ethernet, packet
from os_ken.ofproto import ofproto_v1_0, ofproto_v1_3, ofproto_v1_4, ofproto_v1_5

VERSIONS = {
    "OpenFlow10": ofproto_v1_0,
    "OpenFlow13": ofproto_v1_3,
    "OpenFlow14": ofproto_v1_4,
    "OpenFlow15": ofproto_v1_5,
}


class LearningSwitch(app_manager.OSKenApp):
    OFP_VERSIONS = [VERSIONS[os.environ["VERSION"]].OFP_VERSION]

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.ports = {}

    def old(self, dp):
        return dp.ofproto.OFP_VERSION == ofproto_v1_0.OFP_VERSION

    def add_flow(self, dp, priority, fields, actions, idle_timeout=0):
        parser, ofp = dp.ofproto_parser, dp.ofproto
        match = parser.OFPMatch(**fields)
        if self.old(dp):
            dp.send_msg(parser.OFPFlowMod(
                datapath=dp, match=match, cookie=7, command=ofp.OFPFC_ADD, priority=priority,
                idle_timeout=idle_timeout, flags=ofp.OFPFF_SEND_FLOW_REM, actions=actions))
            return
        apply = parser.OFPInstructionActions(ofp.OFPIT_APPLY_ACTIONS, actions)
        dp.send_msg(parser.OFPFlowMod(
            datapath=dp, match=match, cookie=7, command=ofp.OFPFC_ADD, priority=priority,
            idle_timeout=idle_timeout, flags=ofp.OFPFF_SEND_FLOW_REM, instructions=[apply]))

    @set_ev_cls(ofp_event.EventOFPSwitchFeatures, CONFIG_DISPATCHER)
    def features(self, ev):
        dp = ev.msg.datapath
        if not self.old(dp):
            ofp = dp.ofproto
            up = dp.ofproto_parser.OFPActionOutput(ofp.OFPP_CONTROLLER, ofp.OFPCML_NO_BUFFER)
            self.add_flow(dp, 0, {}, [up])

    @set_ev_cls(ofp_event.EventOFPPacketIn, MAIN_DISPATCHER)
    def packet_in(self, ev):
        msg = ev.msg
        dp, parser, ofp = msg.datapath, msg.datapath.ofproto_parser, msg.datapath.ofproto
        in_port = msg.in_port if self.old(dp) else msg.match["in_port"]
        eth = packet.Packet(msg.data).get_protocol(ethernet.ethernet)
        self.ports[eth.src] = in_port
        out = self.ports.get(eth.dst)
        actions = [parser.OFPActionOutput(ofp.OFPP_FLOOD if out is None else out)]
        if out is not None:
            names = ("dl_src", "dl_dst") if self.old(dp) else ("eth_src", "eth_dst")
            fields = dict(zip(names, (eth.src, eth.dst)), in_port=in_port)
            self.add_flow(dp, 10, fields, actions, idle_timeout=30)
        where = {"in_port": in_port}
        if dp.ofproto.OFP_VERSION == ofproto_v1_5.OFP_VERSION:
            where = {"match": parser.OFPMatch(in_port=in_port)}
        dp.send_msg(parser.OFPPacketOut(
            datapath=dp, buffer_id=ofp.OFP_NO_BUFFER, actions=actions, data=msg.data, **where))

    @set_ev_cls(ofp_event.EventOFPErrorMsg, [CONFIG_DISPATCHER, MAIN_DISPATCHER])
    def error(self, ev):
        print("ERROR", ev.msg.type, ev.msg.code, flush=True)
