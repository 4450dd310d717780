/** Imports a part of the page; without it the page is incomplete, and loads again when the server answers. */
export async function load(importing) {
  try {
    return await importing;
  } catch (error) {
    console.warn(error.message);
    window.dispatchEvent(new Event("incomplete"));
    return null;
  }
}
