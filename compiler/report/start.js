// Draws what the page has a place for, and again when colours change or the page is printed.
readColors();
if (document.getElementById('memory')) new MemoryChart();
if (document.getElementById('arena')) new ArenaMap();
if (document.getElementById('curve')) new Curve();
function repaint() {
  readColors();
  for (const plot of Plot.all) plot.redrawNow();
}
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', repaint);
// Paper is white: the canvases are drawn in light colours before it is printed, and again after.
addEventListener('beforeprint', () => {
  document.documentElement.dataset.print = '';
  for (const more of document.querySelectorAll('details')) more.dataset.open = more.open, more.open = true;
  repaint();
});
addEventListener('afterprint', () => {
  delete document.documentElement.dataset.print;
  for (const more of document.querySelectorAll('details')) more.open = more.dataset.open === 'true';
  repaint();
});
