/**
 * How many tokens of a first and second text stay so that together they have at most `room`: as Hugging Face's
 * "longest_first", the longer gives way first, and where both must, they end equal (an odd one goes to the longer).
 */
export function truncatedLengths(first: number, second: number, room: number): readonly [number, number] {
  if (first + second <= room) return [first, second];
  const shorter = Math.min(first, second, Math.floor(room / 2));
  return first <= second ? [shorter, room - shorter] : [room - shorter, shorter];
}
