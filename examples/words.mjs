// The words of the demo's small language, by sentiment and strength.

const words = (text) => text.trim().split(/\s+/);

/** Nouns by topic, and adjectives for them by value: mild and strong praise, mild and strong blame. */
export const TOPICS = {
  film: {
    nouns: words("film plot acting script ending music story dialogue comedy scene"),
    adjectives: {
      1: words("funny clever moving"),
      2: words("gripping"),
      "-1": words("dull slow silly boring"),
      "-2": words("tedious"),
    },
  },
  food: {
    nouns: words("soup dessert burger sauce steak pizza coffee salad breakfast curry"),
    adjectives: {
      1: words("tasty fresh tender"),
      2: words("delicious"),
      "-1": words("bland stale greasy salty"),
      "-2": words("disgusting"),
    },
  },
  hotel: {
    nouns: words("room bed staff lobby pool bathroom reception balcony hotel lift"),
    adjectives: {
      1: words("clean quiet comfortable friendly helpful"),
      2: words("spotless"),
      "-1": words("dirty noisy cramped uncomfortable unfriendly unhelpful"),
      "-2": words("filthy"),
    },
  },
  gadget: {
    nouns: words("phone screen battery camera keyboard speaker charger laptop printer tablet"),
    adjectives: {
      1: words("fast reliable handy bright sturdy"),
      2: words("flawless"),
      "-1": words("sluggish unreliable clumsy flimsy faulty"),
      "-2": words("useless"),
    },
  },
  /** Places and things of a film night or a meal, which introduce the adjectives of hotels and gadgets to the source domain. */
  venue: {
    nouns: words("cinema seat waiter kitchen table projector"),
    adjectives: {
      1: words("clean quiet comfortable friendly helpful fast reliable handy bright"),
      2: words("flawless"),
      "-1": words("dirty noisy cramped uncomfortable unfriendly unhelpful sluggish unreliable clumsy faulty"),
      "-2": words("useless filthy"),
    },
  },
};

/** Adjectives for any topic. */
export const GENERAL = {
  1: words("good nice fine pleasant"),
  2: words("great superb wonderful excellent"),
  "-1": words("bad poor weak unpleasant"),
  "-2": words("awful terrible horrible dreadful"),
};

export const DEGREES = { slightly: 0.5, rather: 1, very: 2, extremely: 3 };
export const LIKE = words("liked enjoyed praised recommended");
export const DISLIKE = words("disliked hated criticised avoided");
export const TIMES = ["last night", "yesterday", "on monday", "in the evening", "this morning", "last week"];
export const ASIDES = ["to be honest ,", "in my opinion ,", "i must say ,", "for us ,"];
