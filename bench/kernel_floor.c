/* What the kernel alone needs for a network of hosts: the least that any emulator on it can take.
 *
 *   kernel_floor HOSTS [HOSTS_A_SWITCH] [hold]
 *
 * A host is a network namespace without IPv6, a veth pair of which one end is a port of a bridge, an address, and both
 * ends and the loopback interface up. One thread, rtnetlink(7) without a library, one message at a time and each one
 * acknowledged. Prints the seconds from before the first bridge until the last interface is up. With `hold` it then
 * waits until its standard input ends; when it has ended the kernel takes everything back. Works for ordinary users,
 * too: it then begins with a user namespace of its own. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { HOST_INTERFACE = 2 }; /* the index of eth0 in each host: lo has 1 */

static char message[4096]; /* the one that is being written */

static void fail(const char *what) {
    fprintf(stderr, "kernel_floor: %s: %s\n", what, strerror(errno));
    exit(1);
}

static struct nlmsghdr *head(void) { return (struct nlmsghdr *)message; }

/* Begins a message of a type with its fixed part, which it returns. */
static void *begin(int type, int flags, size_t fixed) {
    memset(message, 0, sizeof message);
    head()->nlmsg_type = type;
    head()->nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | flags;
    head()->nlmsg_len = NLMSG_LENGTH(fixed);
    return NLMSG_DATA(message);
}

/* Appends an attribute; the size of one that holds others is set by `end`. */
static struct rtattr *put(int type, const void *value, size_t size) {
    struct rtattr *attribute = (struct rtattr *)(message + NLMSG_ALIGN(head()->nlmsg_len));
    attribute->rta_type = type;
    attribute->rta_len = RTA_LENGTH(size);
    if (size) memcpy(RTA_DATA(attribute), value, size);
    head()->nlmsg_len = NLMSG_ALIGN(head()->nlmsg_len) + RTA_LENGTH(size);
    return attribute;
}

static void end(struct rtattr *nest) { nest->rta_len = message + head()->nlmsg_len - (char *)nest; }

/* Sends the message and waits for the kernel's answer. */
static void ask(int netlink, const char *what) {
    static uint32_t number;
    struct {
        struct nlmsghdr head;
        struct nlmsgerr body;
        char rest[2048];
    } answer;
    head()->nlmsg_seq = ++number;
    if (send(netlink, message, head()->nlmsg_len, 0) < 0) fail(what);
    if (recv(netlink, &answer, sizeof answer, 0) < 0) fail(what);
    if (answer.head.nlmsg_type != NLMSG_ERROR || answer.body.error) {
        errno = -answer.body.error;
        fail(what);
    }
}

static int open_netlink(void) {
    int netlink = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    if (netlink < 0) fail("netlink socket");
    return netlink;
}

static void write_file(const char *path, const char *text, int needed) {
    int file = open(path, O_WRONLY | O_CLOEXEC);
    if (file < 0 || write(file, text, strlen(text)) < 0) {
        if (needed) fail(path);
    }
    if (file >= 0) close(file);
}

/* A network namespace of one's own, in which this process is from now on. */
static int enter_new(void) {
    if (unshare(CLONE_NEWNET)) fail("new network namespace");
    write_file("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1", 0);
    int space = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
    if (space < 0) fail("/proc/thread-self/ns/net");
    return space;
}

static void become_root(void) {
    char map[64];
    unsigned user = geteuid(), group = getegid();
    if (user == 0) return;
    if (unshare(CLONE_NEWUSER)) fail("user namespace");
    write_file("/proc/self/setgroups", "deny", 0);
    snprintf(map, sizeof map, "0 %u 1", user);
    write_file("/proc/self/uid_map", map, 1);
    snprintf(map, sizeof map, "0 %u 1", group);
    write_file("/proc/self/gid_map", map, 1);
}

static void new_bridge(int netlink, int index) {
    char name[IFNAMSIZ];
    struct ifinfomsg *link = begin(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, sizeof *link);
    link->ifi_index = index;
    link->ifi_flags = link->ifi_change = IFF_UP;
    put(IFLA_IFNAME, name, snprintf(name, sizeof name, "switch%d", index) + 1);
    struct rtattr *info = put(IFLA_LINKINFO, NULL, 0);
    put(IFLA_INFO_KIND, "bridge", 6);
    end(info);
    ask(netlink, "bridge");
}

static void new_cable(int netlink, int number, int bridge, int host) {
    char name[IFNAMSIZ];
    struct ifinfomsg peer = {.ifi_index = HOST_INTERFACE};
    struct ifinfomsg *link = begin(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, sizeof *link);
    link->ifi_flags = link->ifi_change = IFF_UP;
    put(IFLA_IFNAME, name, snprintf(name, sizeof name, "port%d", number) + 1);
    put(IFLA_MASTER, &bridge, sizeof bridge);
    struct rtattr *info = put(IFLA_LINKINFO, NULL, 0);
    put(IFLA_INFO_KIND, "veth", 4);
    struct rtattr *data = put(IFLA_INFO_DATA, NULL, 0);
    struct rtattr *other = put(VETH_INFO_PEER, &peer, sizeof peer);
    put(IFLA_IFNAME, "eth0", 5);
    put(IFLA_NET_NS_FD, &host, sizeof host);
    end(other), end(data), end(info);
    ask(netlink, "veth pair");
}

static void new_address(int netlink, uint32_t address) {
    struct ifaddrmsg *where = begin(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, sizeof *where);
    where->ifa_family = AF_INET;
    where->ifa_prefixlen = 8;
    where->ifa_index = HOST_INTERFACE;
    address = htonl(address);
    put(IFA_LOCAL, &address, sizeof address);
    put(IFA_ADDRESS, &address, sizeof address);
    ask(netlink, "address");
}

static void set_up(int netlink, int index) {
    struct ifinfomsg *link = begin(RTM_NEWLINK, 0, sizeof *link);
    link->ifi_index = index;
    link->ifi_flags = link->ifi_change = IFF_UP;
    ask(netlink, "interface up");
}

static double now_s(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec / 1e9;
}

int main(int count, char **words) {
    int hosts = count > 1 ? atoi(words[1]) : 0;
    int a_switch = count > 2 && atoi(words[2]) > 0 ? atoi(words[2]) : 1000;
    int hold = count > 1 && !strcmp(words[count - 1], "hold");
    if (hosts < 1) {
        fprintf(stderr, "usage: kernel_floor HOSTS [HOSTS_A_SWITCH] [hold]\n");
        return 2;
    }
    become_root();
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    if (files.rlim_max < (rlim_t)hosts + 32) files.rlim_max = hosts + 32; /* root may raise it */
    files.rlim_cur = files.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &files)) fail("file descriptors");

    enter_new();
    int switches = (hosts + a_switch - 1) / a_switch;
    int here = open_netlink();
    double began = now_s();
    for (int number = 0; number < switches; number++) new_bridge(here, 2 + number);
    for (int number = 0; number < hosts; number++) {
        int host = enter_new(); /* kept open: it lives as long as this process */
        int there = open_netlink();
        new_cable(here, number, 2 + number / a_switch, host);
        new_address(there, 0x0a000001u + number);
        set_up(there, HOST_INTERFACE);
        set_up(there, 1);
        close(there);
    }
    printf("%.6f\n", now_s() - began);
    fflush(stdout);
    while (hold && getchar() != EOF) continue;
    return 0;
}
