// @ts-check
// Follows the printed address to the page itself, without the token, and with what stands after the #.

location.replace(location.pathname + location.hash);
export {};
