/* -netdev, -nic, -net, network cards as -device, and -object filter-dump. */
#include "machine/options.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "machine/option_list.h"

#define LEGACY_ID "hub0port" /* the network of -net options: there is one */

static int find(const struct options *o, const char *id)
{
    for (int i = 0; i < o->net_count; i++)
        if (!strcmp(o->nets[i].id, id)) return i;
    return -1;
}

/* ---- networks ---- */

static void config_free(struct net_config *c)
{
    char *const strings[] = {c->id,     c->net,      c->host,    c->dhcpstart, c->dns,        c->hostname,
                             c->tftp,   c->bootfile, c->ifname,  c->script,    c->downscript, c->domainname,
                             c->path,   c->address,  c->port,    c->local_address, c->local_port, c->tftp_server_name};
    for (size_t i = 0; i < ARRAY_LEN(strings); i++) free(strings[i]);
    for (int i = 0; i < c->hostfwd_count; i++) free(c->hostfwd[i]);
    for (int i = 0; i < c->guestfwd_count; i++) free(c->guestfwd[i]);
    for (int i = 0; i < c->dnssearch_count; i++) free(c->dnssearch[i]);
}

static void take_string(struct option_list *l, const char *key, char **to)
{
    const char *value = option_list_get(l, key);
    if (value) *to = strdup(value);
}

static int take_list(struct option_list *l, const char *key, char **to, int *count)
{
    const char *value;
    for (int at = 0; (value = option_list_next(l, key, &at));) {
        if (*count == NET_LIST_MAX) return option_bad(l->option, key, "given too often");
        to[(*count)++] = strdup(value);
    }
    return 0;
}

static int user_properties(struct option_list *l, struct net_config *c)
{
    const struct {
        const char *key;
        char **to;
    } strings[] = {
        {"net", &c->net},           {"host", &c->host},         {"dhcpstart", &c->dhcpstart},
        {"dns", &c->dns},           {"hostname", &c->hostname}, {"domainname", &c->domainname},
        {"tftp", &c->tftp},         {"bootfile", &c->bootfile}, {"tftp-server-name", &c->tftp_server_name},
    };
    for (size_t i = 0; i < ARRAY_LEN(strings); i++) take_string(l, strings[i].key, strings[i].to);
    int err = option_list_bool(l, "restrict", &c->restricted);
    bool said4 = option_list_get(l, "ipv4"), said6 = option_list_get(l, "ipv6");
    c->ipv4 = c->ipv6 = true;
    if (!err) err = option_list_bool(l, "ipv4", &c->ipv4);
    if (!err) err = option_list_bool(l, "ipv6", &c->ipv6);
    /* Asking for one of them only means only that one. */
    if (said4 && c->ipv4 && !said6) c->ipv6 = false;
    if (said6 && c->ipv6 && !said4) c->ipv4 = false;
    if (!err) err = take_list(l, "hostfwd", c->hostfwd, &c->hostfwd_count);
    if (!err) err = take_list(l, "guestfwd", c->guestfwd, &c->guestfwd_count);
    if (!err) err = take_list(l, "dnssearch", c->dnssearch, &c->dnssearch_count);
    return err;
}

static int descriptor(struct option_list *l, int *fd)
{
    u64 number = 0;
    bool said = option_list_get(l, "fd");
    int err = option_list_number(l, "fd", 1 << 20, &number);
    if (said && !err) *fd = (int)number;
    return err;
}

static int tap_properties(struct option_list *l, struct net_config *c)
{
    bool vhost = false;
    take_string(l, "ifname", &c->ifname);
    take_string(l, "script", &c->script);
    take_string(l, "downscript", &c->downscript);
    int err = option_list_bool(l, "vhost", &vhost);
    if (!err && vhost) return option_bad(l->option, "tap", "vhost=on not supported");
    return err ? err : descriptor(l, &c->fd);
}

/* "[HOST]:PORT" */
static int split(const char *option, const char *text, char **host, char **port)
{
    const char *colon = strrchr(text, ':');
    if (!colon || !colon[1]) return option_bad(option, text, "expected [HOST]:PORT");
    *host = strndup(text, (size_t)(colon - text));
    *port = strdup(colon + 1);
    return 0;
}

static int socket_properties(struct option_list *l, struct net_config *c)
{
    const char *listen = option_list_get(l, "listen"), *connect = option_list_get(l, "connect");
    const char *group = option_list_get(l, "mcast"), *udp = option_list_get(l, "udp");
    const char *local = option_list_get(l, "localaddr");
    int err = descriptor(l, &c->fd);
    if (err) return err;
    if ((listen != NULL) + (connect != NULL) + (group != NULL) + (udp != NULL) + (c->fd >= 0) != 1)
        return option_bad(l->option, "socket", "give exactly one of fd, listen, connect, mcast and udp");
    c->kind = group || udp ? NET_DGRAM : NET_STREAM;
    c->server = listen != NULL;
    if (c->fd >= 0) return 0;
    err = split(l->option, listen ? listen : connect ? connect : group ? group : udp, &c->address, &c->port);
    if (udp && !err) {
        if (!local) return option_bad(l->option, "socket", "udp needs localaddr=HOST:PORT");
        return split(l->option, local, &c->local_address, &c->local_port);
    }
    if (local && !group) return option_bad(l->option, "socket", "localaddr is for mcast and udp");
    if (local && !err) c->local_address = strdup(local);
    return err;
}

static int stream_properties(struct option_list *l, struct net_config *c)
{
    const char *type = option_list_get(l, "addr.type");
    int err = option_list_bool(l, "server", &c->server);
    if (err) return err;
    if (type && !strcmp(type, "unix")) {
        take_string(l, "addr.path", &c->path);
        return c->path ? 0 : option_bad(l->option, "stream", "property 'addr.path' is missing");
    }
    if (type && !strcmp(type, "fd")) {
        const char *text = option_list_get(l, "addr.str");
        u64 fd;
        if (!text || !option_number(text, 1 << 20, &fd)) return option_bad(l->option, "stream", "addr.str: expected a number");
        c->fd = (int)fd;
        return 0;
    }
    if (!type || strcmp(type, "inet")) return option_bad(l->option, "stream", "addr.type: expected inet, unix or fd");
    take_string(l, "addr.host", &c->address);
    take_string(l, "addr.port", &c->port);
    return c->port ? 0 : option_bad(l->option, "stream", "property 'addr.port' is missing");
}

/* A network of that kind from the rest of the list: its index, or -EINVAL with a message. */
static int add_net(struct options *o, const char *kind, const char *id, struct option_list *l)
{
    struct net_config c = {.fd = -1};
    int err;
    if (o->net_count == OPTIONS_NETS) return option_bad(l->option, kind, "too many networks");
    if (find(o, id) >= 0) return option_bad(l->option, id, "duplicate id");
    c.id = strdup(id);
    if (!strcmp(kind, "user")) {
        c.kind = NET_USER;
        err = net_user_available() ? user_properties(l, &c) : option_bad(l->option, kind, "this build has no libslirp");
    } else if (!strcmp(kind, "tap")) {
        c.kind = NET_TAP;
        err = tap_properties(l, &c);
    } else if (!strcmp(kind, "socket")) {
        err = socket_properties(l, &c);
    } else if (!strcmp(kind, "stream")) {
        c.kind = NET_STREAM;
        err = stream_properties(l, &c);
    } else {
        err = option_bad(l->option, kind, "network type not supported (there are user, tap, socket and stream)");
    }
    if (err) {
        config_free(&c);
        return err;
    }
    o->nets[o->net_count] = c;
    return o->net_count++;
}

static int list_kinds(void)
{
    printf("Available netdev backend types:\nsocket\nstream\ntap\n%s", net_user_available() ? "user\n" : "");
    return 1;
}

int options_netdev(struct options *o, const char *text)
{
    struct option_list l;
    if (!strcmp(text, "help") || !strcmp(text, "?")) return list_kinds();
    int err = option_list_parse(&l, "-netdev", text, "type");
    if (err) return err;
    const char *kind = option_list_get(&l, "type"), *id = option_list_get(&l, "id");
    if (!kind || !*kind)
        err = option_bad("-netdev", text, "no kind of network");
    else if (!id || !isalpha((unsigned char)*id))
        err = option_bad("-netdev", text, "property 'id' is missing or not a valid id");
    else
        err = add_net(o, kind, id, &l);
    if (err >= 0) err = option_list_check(&l);
    option_list_free(&l);
    return err;
}

/* ---- cards ---- */

static bool parse_mac(const char *text, u8 mac[6])
{
    for (int i = 0; i < 6; i++) {
        if (!isxdigit((unsigned char)text[0]) || !isxdigit((unsigned char)text[1])) return false;
        char digits[3] = {text[0], text[1], 0};
        mac[i] = (u8)strtoul(digits, NULL, 16);
        text += 2;
        if (i < 5 && *text != ':' && *text != '-') return false;
        if (i < 5) text++;
    }
    return !*text;
}

static bool is_e1000(const char *model) { return !strcmp(model, "e1000") || !strcmp(model, "e1000-82540em"); }

bool options_net_driver(const char *driver)
{
    return is_e1000(driver) || !strcmp(driver, "rtl8139") || !strcmp(driver, "ne2k_pci") || options_virtio_net(driver);
}

/* A card with the properties of its list. */
static int add_card(struct options *o, const char *model, int net, struct option_list *l)
{
    struct nic_option nic = {.model = is_e1000(model) ? NIC_E1000 : *model == 'n' ? NIC_NE2000 : NIC_RTL8139,
                             .net = net, .devfn = -1, .bootindex = -1, .rom = true};
    int err;
    if (!strcmp(model, "virtio")) model = "virtio-net-pci";
    if (!options_net_driver(model))
        return option_bad(l->option, model, "network card not supported (there are e1000, ne2k_pci, rtl8139 and virtio-net-pci)");
    if (o->nic_count == OPTIONS_NETS) return option_bad(l->option, model, "too many network cards");
    const char *mac = option_list_get(l, "mac"), *long_mac = option_list_get(l, "macaddr");
    if (long_mac) mac = long_mac;
    if (mac && !parse_mac(mac, nic.mac)) return option_bad(l->option, mac, "not a MAC address");
    if (mac && (nic.mac[0] & 1)) return option_bad(l->option, mac, "a multicast address is no card's");
    nic.has_mac = mac != NULL;
    if (options_virtio_net(model)) {
        nic.model = NIC_VIRTIO;
        err = options_virtio_place(l, model, &nic.virtio);
        nic.devfn = nic.virtio.devfn;
    } else {
        err = options_pci_place(l, model, &nic.devfn);
    }
    if (err) return err;
    u64 bootindex = 0;
    bool boots = option_list_get(l, "bootindex");
    err = option_list_number(l, "bootindex", INT32_MAX, &bootindex);
    if (err) return err;
    if (boots) nic.bootindex = (int)bootindex;
    const char *romfile = option_list_get(l, "romfile");
    u64 rombar = 1;
    err = option_list_number(l, "rombar", 1, &rombar);
    if (err) return err;
    nic.rom = rombar && !(romfile && !*romfile);
    if (nic.rom && romfile) nic.romfile = strdup(romfile);
    if (net >= 0) o->net_used[net] = true;
    o->nics[o->nic_count++] = nic;
    o->net_said = true;
    return 0;
}

int options_net_device(struct options *o, const char *driver, struct option_list *l)
{
    const char *id = option_list_get(l, "netdev");
    int net = id ? find(o, id) : -1;
    if (id && net < 0) return option_bad("-device", id, "no such netdev");
    if (net >= 0 && o->net_used[net]) return option_bad("-device", id, "that netdev is in use");
    int err = add_card(o, driver, net, l);
    return err ? err : option_list_check(l);
}

int options_nic(struct options *o, const char *option, const char *text)
{
    (void)option;
    struct option_list l;
    if (!strcmp(text, "help") || !strcmp(text, "?")) return list_kinds();
    int err = option_list_parse(&l, "-nic", text, "type");
    if (err) return err;
    const char *kind = option_list_get(&l, "type"), *model = option_list_get(&l, "model");
    const char *id = option_list_get(&l, "id");
    char name[16];
    o->net_said = true;
    if (model && (!strcmp(model, "help") || !strcmp(model, "?"))) {
        printf("Available NIC models:\ne1000\nne2k_pci\nrtl8139\nvirtio-net-pci\n");
        err = 1;
    } else if (!kind || !*kind) {
        err = option_bad("-nic", text, "no kind of network");
    } else if (strcmp(kind, "none")) {
        snprintf(name, sizeof(name), "#net%d", o->net_count);
        int net = add_net(o, kind, id ? id : name, &l);
        err = net < 0 ? net : add_card(o, model ? model : "e1000", net, &l);
    }
    if (!err) err = option_list_check(&l);
    option_list_free(&l);
    return err;
}

/* The old way: -net nic and -net KIND meet on a hub, which here is a cable between one of each. */
int options_net(struct options *o, const char *text)
{
    struct option_list l;
    int err = option_list_parse(&l, "-net", text, "type");
    if (err) return err;
    const char *kind = option_list_get(&l, "type");
    const char *id = option_list_get(&l, "netdev");
    int net = find(o, LEGACY_ID);
    option_list_get(&l, "id");
    option_list_get(&l, "name");
    o->net_said = true;
    if (!kind || !*kind) {
        err = option_bad("-net", text, "no kind of network");
    } else if (!strcmp(kind, "nic")) {
        const char *model = option_list_get(&l, "model");
        if (id) net = find(o, id);
        if (id && net < 0) err = option_bad("-net nic", id, "no such netdev");
        else if (net >= 0 && o->net_used[net]) err = option_bad("-net", text, "that network has a card already");
        else err = add_card(o, model ? model : "e1000", net, &l);
    } else if (strcmp(kind, "none")) {
        int made = add_net(o, kind, LEGACY_ID, &l);
        err = made < 0 ? made : 0;
        /* A card given before waits for its network. */
        for (int i = 0; i < o->nic_count && !err; i++) {
            if (o->nics[i].net >= 0) continue;
            o->nics[i].net = made;
            o->net_used[made] = true;
            break;
        }
    }
    if (!err) err = option_list_check(&l);
    option_list_free(&l);
    return err;
}

int options_net_dump(struct options *o, struct option_list *l)
{
    const char *id = option_list_get(l, "netdev"), *file = option_list_get(l, "file");
    u64 length = 65536;
    int net = id ? find(o, id) : -1, err = option_list_number(l, "maxlen", 262144, &length);
    if (err) return err;
    if (!file || !*file) return option_bad("-object", "filter-dump", "property 'file' is missing");
    if (net < 0) return option_bad("-object filter-dump", id ? id : "", "no such netdev");
    if (o->dump_count == OPTIONS_NETS) return option_bad("-object", "filter-dump", "too many dumps");
    if ((err = option_list_check(l))) return err;
    o->dumps[o->dump_count++] = (struct dump_option){.net = net, .file = strdup(file), .snap_length = (u32)length};
    return 0;
}

int options_net_finish(struct options *o)
{
    if (!o->net_said && !o->nodefaults && net_user_available()) {
        int err = options_nic(o, "-nic", "user");
        if (err) return err;
    }
    /* Addresses that were not given count up from the well-known one. */
    u8 next = 0x56;
    for (int i = 0; i < o->nic_count; i++) {
        struct nic_option *nic = &o->nics[i];
        if (nic->has_mac) continue;
        memcpy(nic->mac, (const u8[]){0x52, 0x54, 0x00, 0x12, 0x34, next++}, 6);
    }
    return 0;
}

void options_net_free(struct options *o)
{
    for (int i = 0; i < o->net_count; i++) config_free(&o->nets[i]);
    for (int i = 0; i < o->nic_count; i++) free(o->nics[i].romfile);
    for (int i = 0; i < o->dump_count; i++) free(o->dumps[i].file);
}
