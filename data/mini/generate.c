// generate.c: writes the invented data set of this folder, movies.csv and ratings.csv.
//
//     generate DIR
//
// A video shop has sixteen shelves; the films of a shelf stand in a fixed order. Every visitor
// belongs to one of ten crowds, and a crowd loves a few shelves. A visit goes to one shelf and takes
// films from it, often the next ones in the order: so tastes, popularity, drifting interests and
// succession are all planted, and all can be learned. No person and no film here is real.
//
// All arithmetic is on integers, every random number is a pure function of (stream, count), and no
// expression draws two of them: any compiler on any machine writes the same bytes.

#include <stdint.h>
#include <stdio.h>
#include <string.h>

enum {
    SHELVES = 16,
    SHELF_FILMS = 44,
    FILMS = SHELVES * SHELF_FILMS,
    CROWDS = 10,
    USERS = 400,
    FIRST_YEAR = 2015, // visits begin on 1 January 2015 ...
    YEARS = 6,         // ... and end when 2020 does
    MAX_RATINGS = 256
};

static const int64_t DAY = 86400;
static const int64_t OPENING = 1420070400; // 2015-01-01 00:00 UTC

typedef struct {
    const char *genres;
    const char *adjectives[8];
    const char *nouns[8];
} shelf_theme;

static const shelf_theme THEMES[SHELVES] = {
    {"Adventure|Sci-Fi",
     {"Lunar", "Orbital", "Quantum", "Silent", "Second", "Distant", "Borrowed", "Rusty"},
     {"Airlock", "Colony", "Comet", "Signal", "Android", "Horizon", "Gravity", "Antenna"}},
    {"Sci-Fi|Thriller",
     {"Synthetic", "Encrypted", "Parallel", "Forgotten", "Neon", "Infinite", "Cloned", "Offline"},
     {"Memory", "Archive", "Witness", "Mirror", "Protocol", "Tomorrow", "Password", "Twin"}},
    {"Comedy",
     {"Reluctant", "Accidental", "Overdue", "Unlikely", "Terrible", "Clumsy", "Polite", "Spare"},
     {"Plumber", "Best Man", "Aunt", "Landlord", "Parrot", "Wedding Cake", "Substitute", "Sofa"}},
    {"Comedy|Romance",
     {"Almost", "Secret", "Borrowed", "Rainy", "Perfect", "Unsent", "Second-Hand", "Midsummer"},
     {"Bride", "Love Letter", "Umbrella", "Neighbour", "Honeymoon", "Tuesday", "Kiss", "Elevator"}},
    {"Drama",
     {"Quiet", "Long", "Broken", "Distant", "Unfinished", "Salted", "Winter", "Last"},
     {"Harbour", "Orchard", "Letter", "Silence", "Father", "Piano", "Inheritance", "Field"}},
    {"Drama|Romance",
     {"Burning", "Autumn", "Faithful", "Faded", "Tender", "Stolen", "Northern", "Velvet"},
     {"Garden", "Promise", "Waltz", "Lighthouse", "Photograph", "Season", "Farewell", "Glove"}},
    {"Crime|Drama",
     {"Crooked", "Marked", "Honest", "Dirty", "Hollow", "Patient", "Unpaid", "Seventh"},
     {"Verdict", "Informer", "Alibi", "Bookkeeper", "Debt", "Juror", "Locksmith", "Ledger"}},
    {"Crime|Film-Noir|Mystery",
     {"Smoky", "Double", "Missing", "Black", "Velvet", "Midnight", "Vanishing", "Third"},
     {"Stairway", "Blonde", "Detective", "Cigarette", "Shadow", "Ferry", "Clue", "Staircase"}},
    {"Horror",
     {"Whispering", "Buried", "Cursed", "Hungry", "Pale", "Screaming", "Locked", "Moonless"},
     {"Cellar", "Doll", "Attic", "Chapel", "Swamp", "Scarecrow", "Nursery", "Well"}},
    {"Horror|Mystery|Thriller",
     {"Nameless", "Drowned", "Eighth", "Sleepless", "Crimson", "Watching", "Stitched", "Hidden"},
     {"Guest", "Lodge", "Surgeon", "Island", "Portrait", "Choir", "Tunnel", "Window"}},
    {"Action|Thriller",
     {"Final", "Maximum", "Reckless", "Steel", "Rapid", "Lethal", "Explosive", "Downhill"},
     {"Pursuit", "Hostage", "Countdown", "Convoy", "Ambush", "Payback", "Runway", "Detonator"}},
    {"Action|Adventure",
     {"Golden", "Lost", "Roaring", "Forbidden", "Jade", "Sunken", "Wild", "Emerald"},
     {"Temple", "Expedition", "Compass", "River", "Idol", "Caravan", "Volcano", "Treasure"}},
    {"Adventure|Animation|Children",
     {"Brave", "Tiny", "Sleepy", "Flying", "Magic", "Grumpy", "Curious", "Purple"},
     {"Hedgehog", "Teapot", "Snowman", "Penguin", "Balloon", "Dragon", "Turnip", "Submarine"}},
    {"Children|Fantasy",
     {"Enchanted", "Seventh", "Glass", "Moonlit", "Invisible", "Crystal", "Forgotten",
      "Whispering"},
     {"Kingdom", "Unicorn", "Forest", "Spell", "Wardrobe", "Giant", "Crown", "Prophecy"}},
    {"Drama|War",
     {"Fallen", "Frozen", "Iron", "Northern", "Lost", "Broken", "Distant", "Thirteenth"},
     {"Regiment", "Bridge", "Trench", "Telegram", "Squadron", "Medic", "Border", "Armistice"}},
    {"Documentary",
     {"Secret", "Vanishing", "Slow", "Complete", "Hidden", "Living", "Invisible", "Unwritten"},
     {"Life of Moss", "Typewriter", "Glacier", "Bakery", "Orchestra", "Beehive", "Atlas",
      "Goalkeeper"}},
};

static const char *const PLACES[] = {
    "Montevideo", "Malmö", "Córdoba",  "Leeds",    "São Tomé", "Odessa",  "Bergen", "Győr",
    "Nagasaki",   "Ohio",  "Besançon", "Timbuktu", "Košice",   "Lucerne", "Québec", "Accra"};
static const char *const NAMES[] = {
    "Zoë",   "Ruth",    "Señor Paz", "Ingrid",    "Otto",  "Mr. Finch", "Noémie", "Tomasz",
    "Björn", "Abigail", "Chiara",    "Dr. Okoye", "Yusuf", "Māra",      "Walter", "Jürgen"};

typedef struct {
    char title[96];
    char genres[64];
    int id, year;
    int appeal;       // weight in the choice of a film
    int quality;      // tenths of a star
    int64_t premiere; // nobody can have seen it before
} film;

typedef struct {
    int film, stars2; // stars2: the rating in half stars
    int64_t time;
} rating;

typedef struct {
    uint64_t stream, count;
} rng;

// --- random numbers -------------------------------------------------------------------------------

// The SplitMix64 finaliser over (stream, count), a bijection of 64 bits with good avalanche.
static uint64_t next64(rng *r) {
    uint64_t z = r->stream * 0xD1B54A32D192ED03u + ++r->count * 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

static int below(rng *r, int n) {
    return (int)(((next64(r) >> 32) * (uint64_t)n) >> 32);
}

static int chance(rng *r, int percent) {
    return below(r, 100) < percent;
}

// A bell-shaped integer in [-3n, 3n] with standard deviation of about n.
static int bell(rng *r, int n) {
    int sum = 0;
    for (int k = 0; k < 3; k++) sum += below(r, 2 * n + 1) - n;
    return sum;
}

// --- films ----------------------------------------------------------------------------------------

static void make_title(rng *r, const shelf_theme *t, int year, char *out, size_t size) {
    const char *a = t->adjectives[below(r, 8)], *n = t->nouns[below(r, 8)];
    const char *place = PLACES[below(r, 16)], *name = NAMES[below(r, 16)];
    switch (chance(r, 1) ? -1 : below(r, 8)) {
    case -1: snprintf(out, size, "%s of the %s %s", name, a, n); break; // nobody knows the year
    case 0: snprintf(out, size, "%s %s (%d)", a, n, year); break;
    case 1: snprintf(out, size, "%s and the %s %s (%d)", name, a, n, year); break;
    case 2: snprintf(out, size, "%s of %s, The (%d)", n, place, year); break;
    case 3: snprintf(out, size, "%s %s in %s, A (%d)", a, n, place, year); break;
    case 4: snprintf(out, size, "%s %s II (%d)", a, n, year); break;
    case 5: snprintf(out, size, "%s \"%s\" %s (%d)", name, a, n, year); break;
    default: snprintf(out, size, "%s %s, The (%d)", a, n, year); break;
    }
}

static int title_taken(const film *films, int n) {
    for (int i = 0; i < n; i++)
        if (!strcmp(films[i].title, films[n].title)) return 1;
    return 0;
}

// Older films are rarer; one film in seven premieres while the shop is open.
static int make_year(rng *r) {
    if (chance(r, 14)) return FIRST_YEAR + below(r, YEARS);
    int back = below(r, 60), again = below(r, 60);
    return FIRST_YEAR - 1 - (back < again ? back : again);
}

// The appeal of the k-th of a shelf's films in a random order falls like 1/k^2: a long tail.
static void make_appeals(film *shelf, rng *r) {
    int order[SHELF_FILMS];
    for (int k = 0; k < SHELF_FILMS; k++) order[k] = k;
    for (int k = SHELF_FILMS - 1; k > 0; k--) {
        int j = below(r, k + 1), swap = order[k];
        order[k] = order[j];
        order[j] = swap;
    }
    int fame = 20 + below(r, 120); // of the shelf as a whole
    for (int k = 0; k < SHELF_FILMS; k++) {
        film *f = &shelf[order[k]];
        f->appeal = 1 + fame * 60 / ((k + 3) * (k + 3));
        f->quality = bell(r, 3) + (k < 8 ? 3 : 0);
    }
}

static void make_films(film *films) {
    rng r = {1, 0};
    for (int i = 0; i < FILMS; i++) {
        film *f = &films[i];
        const shelf_theme *theme = &THEMES[i / SHELF_FILMS];
        f->year = make_year(&r);
        f->premiere = f->year < FIRST_YEAR
                          ? 0
                          : OPENING + (f->year - FIRST_YEAR) * 365 * DAY + below(&r, 300) * DAY;
        do make_title(&r, theme, f->year, f->title, sizeof f->title);
        while (title_taken(films, i));
        const char *genres = chance(&r, 1) ? "(no genres listed)" : theme->genres;
        snprintf(f->genres, sizeof f->genres, "%s", genres);
    }
    for (int s = 0; s < SHELVES; s++) make_appeals(films + s * SHELF_FILMS, &r);
}

// Identifiers grow with gaps and say nothing of the shelf: the stride has no divisor in common with
// FILMS, so it meets every film once.
static void number_films(film *films, int *by_id) {
    rng r = {2, 0};
    for (int k = 0, id = 0; k < FILMS; k++) {
        id += 1 + (chance(&r, 30) ? below(&r, 12) : 0);
        by_id[k] = (int)((int64_t)k * 295 % FILMS);
        films[by_id[k]].id = id;
    }
}

// --- crowds and visitors --------------------------------------------------------------------------

typedef struct {
    int liking[SHELVES]; // 1 (cold) .. 60 (a favourite)
} taste;

// A crowd has up to six favourite shelves, tolerates up to six more and avoids the rest.
static taste make_crowd(int crowd) {
    rng r = {100 + (uint64_t)crowd, 0};
    taste t;
    for (int s = 0; s < SHELVES; s++) t.liking[s] = 1;
    for (int k = 0; k < 12; k++) {
        int s = below(&r, SHELVES);
        int liking = k < 6 ? 30 + below(&r, 30) : 4 + below(&r, 6);
        if (t.liking[s] < liking) t.liking[s] = liking;
    }
    return t;
}

typedef struct {
    taste taste;
    int shelf;       // where the last visit went: interests drift from shelf to shelf
    int bias, whole; // tenths of a star; only whole stars?
    int n_ratings;   // how many to give
    int64_t now;
    unsigned char seen[FILMS];
} visitor;

static int pick_weighted(rng *r, const int64_t *weight, int n) {
    int64_t total = 0;
    for (int k = 0; k < n; k++) total += weight[k];
    if (total == 0) return -1;
    int64_t x = (int64_t)(next64(r) % (uint64_t)total);
    int k = 0;
    while (x >= weight[k]) x -= weight[k++];
    return k;
}

// By taste, by how near the shelf is to the door (2 .. 17), and by what the last visit was for.
static int pick_shelf(rng *r, const visitor *v) {
    int64_t weight[SHELVES];
    for (int s = 0; s < SHELVES; s++) weight[s] = v->taste.liking[s] * (2 + s * 7 % SHELVES);
    weight[v->shelf] *= 4;
    return pick_weighted(r, weight, SHELVES);
}

static int can_take(const visitor *v, const film *films, int i) {
    return !v->seen[i] && films[i].premiere <= v->now;
}

// A film by appeal, from one shelf or (shelf < 0) from everywhere by appeal and taste; new films draw
// four times as many for a year. -1 when there is nothing left.
static int pick_film(rng *r, const visitor *v, const film *films, int shelf) {
    int64_t weight[FILMS];
    for (int i = 0; i < FILMS; i++) {
        int on_shelf = shelf < 0 || i / SHELF_FILMS == shelf;
        int fresh = films[i].premiere && v->now - films[i].premiere < 365 * DAY;
        int liking = shelf < 0 ? 10 + v->taste.liking[i / SHELF_FILMS] : 1;
        weight[i] = on_shelf && can_take(v, films, i)
                        ? (int64_t)films[i].appeal * liking * (fresh ? 4 : 1)
                        : 0;
    }
    return pick_weighted(r, weight, FILMS);
}

// One of the next five films on the same shelf, by appeal; -1 when there is none.
static int pick_next(rng *r, const visitor *v, const film *films, int last) {
    int64_t weight[5];
    for (int k = 0; k < 5; k++) {
        int i = last + 1 + k, there = i < FILMS && i / SHELF_FILMS == last / SHELF_FILMS;
        weight[k] = there && can_take(v, films, i) ? films[i].appeal : 0;
    }
    int k = pick_weighted(r, weight, 5);
    return k < 0 ? -1 : last + 1 + k;
}

// Tenths of a star: a base, the film, the taste, the person, the mood; then rounded to half stars.
static int rate(rng *r, const visitor *v, const film *f, int shelf) {
    int liking = v->taste.liking[shelf];
    int tenths = 32 + f->quality + v->bias + (liking > 29 ? 6 : liking > 3 ? 0 : -6) + bell(r, 5);
    int stars2 = (tenths + 2) / 5;
    if (v->whole) stars2 = (stars2 + 1) / 2 * 2;
    return stars2 < 1 ? 1 : stars2 > 10 ? 10 : stars2;
}

static visitor make_visitor(rng *r, const taste *crowds) {
    visitor v;
    memset(&v, 0, sizeof v);
    int a = below(r, 100), b = below(r, 100); // crowds are of unequal size
    int crowd = (a < b ? a : b) * CROWDS / 100;
    v.taste = crowds[crowd];
    v.taste.liking[below(r, SHELVES)] = 40; // and everybody has something of their own
    v.bias = bell(r, 2);
    v.whole = chance(r, 30);
    int spread = below(r, 100);
    v.n_ratings = 20 + below(r, 30) + spread * spread * spread / 7000;
    v.now = OPENING + below(r, (YEARS - 1) * 365) * DAY;
    v.now += below(r, (int)DAY);
    v.shelf = pick_shelf(r, &v);
    return v;
}

// One visit: one shelf, a burst of films; half of them are the next in the shelf's order, one in eight
// comes from anywhere. Films rated in the same second exist, as they do in real data.
static int visit(rng *r, visitor *v, const film *films, rating *out, int n) {
    v->shelf = pick_shelf(r, v);
    int last = -1;
    for (int left = 3 + below(r, 12); left > 0 && n < v->n_ratings; left--) {
        int i = last >= 0 && chance(r, 50) ? pick_next(r, v, films, last) : -1;
        if (i < 0) i = pick_film(r, v, films, chance(r, 25) ? -1 : v->shelf);
        if (i < 0) break;
        v->seen[i] = 1;
        rating given = {i, rate(r, v, &films[i], i / SHELF_FILMS), v->now};
        out[n++] = given;
        last = i / SHELF_FILMS == v->shelf ? i : -1;
        v->now += chance(r, 12) ? 0 : 5 + below(r, 90);
    }
    v->now += (1 + below(r, 20)) * DAY;
    v->now += below(r, (int)DAY);
    return n;
}

// --- files ----------------------------------------------------------------------------------------

static int write_movies(const char *dir, const film *films, const int *by_id) {
    char path[1024];
    snprintf(path, sizeof path, "%s/movies.csv", dir);
    FILE *file = fopen(path, "wb");
    if (!file) return perror(path), 1;
    fprintf(file, "movieId,title,genres\n");
    for (int k = 0; k < FILMS; k++) {
        const film *f = &films[by_id[k]];
        int quoted = strpbrk(f->title, ",\"") != NULL;
        fprintf(file, "%d,%s", f->id, quoted ? "\"" : "");
        for (const char *c = f->title; *c; c++) fprintf(file, *c == '"' ? "\"\"" : "%c", *c);
        fprintf(file, "%s,%s\n", quoted ? "\"" : "", f->genres);
    }
    int broken = ferror(file);
    return fclose(file) || broken ? perror(path), 1 : 0;
}

// As in MovieLens: by user, then by film, not by time.
static void write_user(FILE *file, int user, const film *films, const int *by_id,
                       const rating *given, int n) {
    for (int k = 0; k < FILMS; k++)
        for (int j = 0; j < n; j++)
            if (given[j].film == by_id[k])
                fprintf(file, "%d,%d,%d.%d,%lld\n", user, films[by_id[k]].id, given[j].stars2 / 2,
                        given[j].stars2 % 2 * 5, (long long)given[j].time);
}

static int write_ratings(const char *dir, const film *films, const int *by_id) {
    char path[1024];
    snprintf(path, sizeof path, "%s/ratings.csv", dir);
    FILE *file = fopen(path, "wb");
    if (!file) return perror(path), 1;
    taste crowds[CROWDS];
    for (int c = 0; c < CROWDS; c++) crowds[c] = make_crowd(c);
    fprintf(file, "userId,movieId,rating,timestamp\n");
    for (int user = 1; user <= USERS; user++) {
        rng r = {1000 + (uint64_t)user, 0};
        rating given[MAX_RATINGS];
        visitor v = make_visitor(&r, crowds);
        int n = 0;
        for (int visits = 0; n < v.n_ratings && visits < 200; visits++)
            n = visit(&r, &v, films, given, n);
        write_user(file, user, films, by_id, given, n);
    }
    int broken = ferror(file);
    return fclose(file) || broken ? perror(path), 1 : 0;
}

int main(int argc, char **argv) {
    static film films[FILMS];
    static int by_id[FILMS];
    if (argc != 2) return fprintf(stderr, "usage: generate DIR\n"), 2;
    make_films(films);
    number_films(films, by_id);
    return write_movies(argv[1], films, by_id) || write_ratings(argv[1], films, by_id);
}
