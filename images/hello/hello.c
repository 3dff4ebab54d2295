// A tiny HTTP/1.1 server: any GET or HEAD is answered with "Hello from Berth (image)". Connections are kept alive and
// requests may be pipelined, so that a load test measures Berth and not this. Ends on SIGTERM when the answers under way are out.
// $PORT is where it listens (8080), $MESSAGE what it says.
#include <errno.h>
#include <poll.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    CONNECTIONS = 1024, // more than Nginx keeps open to one upstream; past it new ones wait in the backlog
    REQUEST_BYTES = 8192, // what Nginx allows a request's head too
};

struct connection {
    size_t used;
    char head[REQUEST_BYTES];
};

static volatile sig_atomic_t stopping;
static char answer[1024], failure[] = "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
static size_t answer_length, answer_head_length;
static struct pollfd watched[CONNECTIONS + 1];
static struct connection connections[CONNECTIONS + 1];
static nfds_t count = 1;

static void stop(int signal_number) {
    (void)signal_number;
    stopping = 1;
}

static int send_all(int fd, const char *bytes, size_t length) {
    while (length > 0) {
        ssize_t sent = send(fd, bytes, length, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR) continue;
        if (sent <= 0) return -1;
        bytes += sent;
        length -= (size_t)sent;
    }
    return 0;
}

// Reads what came and answers every whole request in it. Returns -1 when the connection is over.
static int serve(int fd, struct connection *c) {
    ssize_t got = recv(fd, c->head + c->used, sizeof c->head - c->used - 1, 0);
    if (got <= 0) return got < 0 && (errno == EINTR || errno == EAGAIN) ? 0 : -1;
    c->used += (size_t)got;
    c->head[c->used] = '\0';
    char *end;
    while ((end = strstr(c->head, "\r\n\r\n")) != NULL) {
        int head = strncmp(c->head, "HEAD ", 5) == 0;
        if (!head && strncmp(c->head, "GET ", 4) != 0) {
            send_all(fd, failure, sizeof failure - 1);
            return -1;
        }
        *end = '\0';
        int close_after = strcasestr(c->head, "\r\nconnection: close") != NULL || strstr(c->head, " HTTP/1.0\r\n") != NULL || stopping;
        if (send_all(fd, answer, head ? answer_head_length : answer_length) < 0 || close_after) return -1;
        size_t taken = (size_t)(end + 4 - c->head);
        memmove(c->head, c->head + taken, c->used - taken + 1);
        c->used -= taken;
    }
    return c->used < sizeof c->head - 1 ? 0 : -1;
}

int main(void) {
    const char *port_text = getenv("PORT"), *message = getenv("MESSAGE");
    long port = port_text != NULL ? strtol(port_text, NULL, 10) : 8080;
    if (port < 1 || port > 65535) {
        fprintf(stderr, "hello: PORT must be a number from 1 to 65535\n");
        return 64;
    }
    if (message == NULL || strlen(message) > 512) message = "Hello from Berth (image)";
    answer_head_length = (size_t)snprintf(answer, sizeof answer,
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: %zu\r\n\r\n", strlen(message) + 1);
    answer_length = answer_head_length + (size_t)snprintf(answer + answer_head_length, sizeof answer - answer_head_length, "%s\n", message);

    // The signals are let in only while waiting: one that came just before would else be seen only after the next request.
    sigset_t held, open;
    sigemptyset(&held);
    sigaddset(&held, SIGTERM);
    sigaddset(&held, SIGINT);
    sigprocmask(SIG_BLOCK, &held, &open);
    struct sigaction action = {.sa_handler = stop};
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);

    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port)};
    if (bind(listener, (struct sockaddr *)&address, sizeof address) < 0 || listen(listener, 1024) < 0) {
        perror("hello: cannot listen");
        return 71;
    }
    fprintf(stderr, "hello: listening on port %ld\n", port);
    watched[0] = (struct pollfd){.fd = listener, .events = POLLIN};

    while (!stopping) {
        // A full house stops listening until somebody leaves.
        watched[0].events = count <= CONNECTIONS ? POLLIN : 0;
        if (ppoll(watched, count, NULL, &open) < 0) continue;
        for (nfds_t i = count - 1; i >= 1; i--) {
            if (watched[i].revents == 0 || serve(watched[i].fd, &connections[i]) == 0) continue;
            close(watched[i].fd);
            count--;
            watched[i] = watched[count];
            memcpy(&connections[i], &connections[count], sizeof connections[i]);
        }
        if (watched[0].revents & POLLIN) {
            int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
            if (fd < 0) continue;
            setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
            watched[count] = (struct pollfd){.fd = fd, .events = POLLIN};
            connections[count].used = 0;
            count++;
        }
    }
    return 0;
}
