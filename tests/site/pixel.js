/* The colour near the upper left corner of a picture. */
async png => {
  const image = new Image();
  image.src = `data:image/png;base64,${png}`;
  await image.decode();
  const sheet = new OffscreenCanvas(1, 1).getContext("2d");
  sheet.drawImage(image, -12, -3);
  return "#" + [...sheet.getImageData(0, 0, 1, 1).data.slice(0, 3)]
    .map(part => part.toString(16).padStart(2, "0")).join("");
}
