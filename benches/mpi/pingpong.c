/* Half round trip by message size, against the MPI interface.
 *
 *     mpicc -O3 pingpong.c -o pingpong && mpirun -n 2 ./pingpong 8,4096,65536,1048576
 *
 * Prints one line per size: `size median_us min_us`, over batches of round trips. The same program for ranks is
 * ../src/latency.rs: change both or neither. The names, the order of the functions and the loops are the same.
 */
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    TAG = 1,
    CHECKED_ROUND_TRIPS = 3,
    WARM_UP_BATCHES = 2,
    BATCHES = 31, /* odd: the median is one of them */
    /* A batch lasts between half a millisecond and a few milliseconds: long against the clock's resolution, short
     * against the time slices in which a shared machine takes its processors away. */
    BATCH_BYTES = 32 << 20,
    FEWEST_ROUND_TRIPS = 20,
    MOST_ROUND_TRIPS = 5000,
};

static int rank;

static void fail(const char *message) {
    fprintf(stderr, "pingpong: rank %d: %s\n", rank, message);
    MPI_Abort(MPI_COMM_WORLD, 1);
}

static double now_us(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec * 1e6 + (double)time.tv_nsec / 1e3;
}

static unsigned char pattern(size_t index, int round) {
    return (unsigned char)(index * 31 + index / 251 + (size_t)round * 7);
}

static void fill(unsigned char *data, size_t size, int round) {
    for (size_t index = 0; index < size; index++)
        data[index] = pattern(index, round);
}

static void check(const unsigned char *data, size_t size, int round) {
    for (size_t index = 0; index < size; index++)
        if (data[index] != pattern(index, round))
            fail("a byte of the payload arrived changed");
}

static void send(const unsigned char *data, size_t size) {
    MPI_Send(data, (int)size, MPI_BYTE, 1 - rank, TAG, MPI_COMM_WORLD);
}

static void recv(unsigned char *buffer, size_t size) {
    MPI_Recv(buffer, (int)size, MPI_BYTE, 1 - rank, TAG, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
}

/* What rank 0 sends comes back from rank 1 with another pattern; both look at every byte. */
static void checked_pass(unsigned char *data, unsigned char *buffer, size_t size) {
    for (int round = 0; round < CHECKED_ROUND_TRIPS; round++) {
        fill(data, size, round + rank);
        memset(buffer, 0, size);
        if (rank == 0) {
            send(data, size);
            recv(buffer, size);
        } else {
            recv(buffer, size);
            send(data, size);
        }
        check(buffer, size, round + 1 - rank);
    }
}

/* Microseconds of half a round trip, the mean over one batch. */
static double batch(const unsigned char *data, unsigned char *buffer, size_t size, int round_trips) {
    double start = now_us();
    for (int trip = 0; trip < round_trips; trip++) {
        if (rank == 0) {
            send(data, size);
            recv(buffer, size);
        } else {
            recv(buffer, size);
            send(data, size);
        }
    }
    return (now_us() - start) / (2.0 * round_trips);
}

static int round_trips_for(size_t size) {
    size_t trips = BATCH_BYTES / (size > 0 ? size : 1);
    if (trips < FEWEST_ROUND_TRIPS)
        return FEWEST_ROUND_TRIPS;
    return trips > MOST_ROUND_TRIPS ? MOST_ROUND_TRIPS : (int)trips;
}

static int ascending(const void *left, const void *right) {
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

static void measure(size_t size) {
    unsigned char *data = calloc(size > 0 ? size : 1, 1);
    unsigned char *buffer = calloc(size > 0 ? size : 1, 1);
    if (data == NULL || buffer == NULL)
        fail("no memory for the two buffers");
    checked_pass(data, buffer, size);
    int round_trips = round_trips_for(size);
    for (int warm_up = 0; warm_up < WARM_UP_BATCHES; warm_up++)
        batch(data, buffer, size, round_trips);
    double times[BATCHES];
    for (int index = 0; index < BATCHES; index++)
        times[index] = batch(data, buffer, size, round_trips);
    qsort(times, BATCHES, sizeof times[0], ascending);
    if (rank == 0)
        printf("%zu %.4f %.4f\n", size, times[BATCHES / 2], times[0]);
    free(data);
    free(buffer);
}

/* A size from the head of a comma-separated list; moves the list on to the next one, NULL after the last. */
static size_t next_size(char **sizes) {
    char *end;
    unsigned long long size = strtoull(*sizes, &end, 10);
    if (end == *sizes || **sizes == '-' || (*end != ',' && *end != '\0'))
        fail("the sizes must be bytes with commas between them, such as 8,4096");
    if (size > 0x7fffffff)
        fail("a size is more than 2147483647 bytes, the most that MPI_Send counts");
    *sizes = *end == ',' ? end + 1 : NULL;
    return (size_t)size;
}

int main(int argc, char **argv) {
    char defaults[] = "8,4096,65536,1048576";
    char *sizes = argc > 1 ? argv[1] : defaults;
    int ranks;
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    if (ranks != 2)
        fail("this needs exactly 2 ranks: mpirun -n 2 ./pingpong");
    while (sizes != NULL)
        measure(next_size(&sizes));
    MPI_Finalize();
    return 0;
}
